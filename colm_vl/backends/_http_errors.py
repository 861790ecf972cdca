"""Converts failures of an endpoint to errors of `colm_vl`, with one-line messages without the key and pictures."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import aiohttp

from colm_vl.backends._http import TooLarge, UnusableEncoding
from colm_vl.errors import (
    BackendError,
    BadReply,
    ContextTooLong,
    ModelNotFound,
    RateLimited,
    Refused,
    TimedOut,
    Unavailable,
    Unreachable,
    Unsupported,
)

_CLIP = 240
_READ = 4_000  # characters of an error message that are searched for its cause
_LABEL = 100  # characters of an error's code or type
_NESTED = 4  # maximum nesting of an error's message in its body
_DATA_URI = re.compile(r"data:[\w.+-]+/[\w.+-]+;base64,[A-Za-z0-9+/=_-]*")

# Wordings of different servers. All repetitions in the patterns are bounded, so that no text takes long to search.
_CONTEXT = re.compile(
    r"context[ _-]?(length|window|size)|maximum model length|max_model_len|prompt is too long|too many (input )?tokens"
    r"|maximum number of (input )?tokens|reduce the length",
    re.IGNORECASE,
)
_PICTURES = re.compile(
    r"not a multi-?modal|mmproj|unknown variant .?image_url"
    r"|\b(image|vision|multi-?modal)\w{0,40}\b.{0,200}\b(not support|unsupported|not enabled|may be provided)"
    r"|\b(not support|unsupported|at most|too many)\w{0,40}\b.{0,200}\b(image|vision|multi-?modal)",
    re.IGNORECASE,
)
_SCHEMA = re.compile(
    r"response[ _-]?format|json[ _-]?schema|structured[ _-]output|guided[ _-]|failed to parse grammar", re.IGNORECASE
)
_MODEL = re.compile(
    r"model_not_found|\bmodel\b.{0,120}\b(not found|does ?n[o']t exist)|invalid model|no such model", re.IGNORECASE
)
_NOT_TAKEN = re.compile(
    r"unsupported|not support|not permitted|forbidden|unrecognized|unexpected|unknown|only the default", re.IGNORECASE
)
_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (aiohttp.ConnectionTimeoutError, "it did not accept the connection in time"),
    (aiohttp.ClientConnectorDNSError, "unknown host"),
    (aiohttp.InvalidURL, "unknown host"),
    (UnicodeError, "unknown host"),
    (aiohttp.ClientConnectorCertificateError, "its certificate cannot be verified"),
    (aiohttp.ClientConnectorSSLError, "it does not speak TLS as expected"),
    (aiohttp.ClientProxyConnectionError, "the proxy does not answer"),
    (ConnectionRefusedError, "connection refused"),
    (aiohttp.ClientConnectorError, "the connection failed"),  # also an OSError, but there was no connection yet
    (aiohttp.ServerDisconnectedError, "the connection broke off"),
    (OSError, "the connection broke off"),
)
"""Causes of connection failures, specific ones first."""


@dataclass(frozen=True, slots=True)
class Target:
    """The endpoint as errors name it, such as "'llava' at http://…", and the key, which must not be part of them."""

    what: str
    base_url: str
    key: str | None = field(repr=False)
    key_env: str | None

    @property
    def label(self) -> str:
        return f"{self.what} at {self.base_url}"

    def scrub(self, text: str) -> str:
        """One line of bounded length, without the key and without pictures."""
        text = _DATA_URI.sub("data:…", text)
        if self.key:
            text = text.replace(self.key, "[key]")
        # Truncate only after replacing the key, of which half could remain otherwise.
        text = " ".join("".join(char if char.isprintable() else " " for char in text[:_READ]).split())
        return text if len(text) <= _CLIP else text[: _CLIP - 1] + "…"


@dataclass(frozen=True, slots=True)
class StatusError:
    """A reply with an error status."""

    status: int
    headers: Mapping[str, str]
    said: str
    """The endpoint's own message, empty for HTML."""
    code: str = ""
    type: str = ""
    param: str = ""
    hint: str = ""

    @classmethod
    def of(cls, status: int, headers: Mapping[str, str], body: bytes) -> StatusError:
        text = body.decode("utf-8-sig", "replace")
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            data = text
        error = data["error"] if isinstance(data, dict) and isinstance(data.get("error"), dict) else data
        labels = error if isinstance(error, dict) else {}
        code, kind, param = (_label(labels.get(name)) for name in ("code", "type", "param"))
        hint = labels.get("hint")
        return cls(status, headers, message_of(data), code, kind, param, hint if isinstance(hint, str) else "")

    @property
    def searched(self) -> str:
        """The text that is searched for the cause."""
        return f"{self.said[:_READ]} {self.code} {self.type}"


def refused_parameter(error: StatusError, sent: Collection[str]) -> str | None:
    """The parameter, of those sent, that the endpoint does not support, if its error says so."""
    said = error.searched
    if error.status not in (400, 422) or _CONTEXT.search(said):
        return None
    if "max_tokens" in sent and "max_completion_tokens" in said:
        return "max_tokens"
    taken_ill = _NOT_TAKEN.search(said)
    for name in sent:
        # Values of these two are always valid, so any objection is to their presence. Others can be out of range.
        always = name in ("top_logprobs", "logprobs", "stream_options", "response_format")
        named = _SCHEMA.search(said) if name == "response_format" else re.search(rf"\b{name}\b", said)
        if (error.param.partition(".")[0] == name or named) and (always or taken_ill):
            return name
    return None


def message_of(body: object) -> str:
    """The endpoint's own message in the body of an error, or "" for HTML."""
    for _ in range(_NESTED):
        if not isinstance(body, Mapping):
            break
        body = next((body[name] for name in ("error", "message", "detail", "msg") if body.get(name)), "")
    if isinstance(body, Mapping):
        return ""
    if isinstance(body, list):
        try:
            return json.dumps(body, ensure_ascii=False, default=str)
        except (ValueError, RecursionError):
            return ""
    text = str(body or "").strip()
    return "" if text.startswith("<") else text


def of_status(error: StatusError, target: Target) -> BackendError:
    """The error for a reply with an error status."""
    status = error.status
    shown = target.scrub(error.said)
    text = f"{target.label}: HTTP {status}" + (f": {shown}" if shown else "")
    if status == 429:
        return _of_too_many(error, text)
    if status in (401, 402, 403):
        return Refused(text, hint=_key_hint(target), status=status)
    if status == 404:
        return ModelNotFound(text, hint="check model, and base_url, which usually ends in /v1", status=status)
    if 300 <= status < 400:
        return BackendError(text, hint=_redirect_hint(error.headers.get("Location", ""), target), status=status)
    if status == 413:
        return Unsupported(text, hint="lower max_pixels, or send fewer pictures", status=status)
    if status < 500 and _MODEL.search(error.searched):
        return ModelNotFound(text, hint="check model", status=status)
    # Some endpoints answer with status 500 in these two cases.
    if _CONTEXT.search(error.searched):
        hint = "shorten the question, lower max_pixels or max_tokens, or serve the model with a longer context"
        return ContextTooLong(text, hint=hint, status=status)
    if _PICTURES.search(error.searched):
        return Unsupported(text, hint="set max_images to what the model supports, 0 for text only", status=status)
    if status == 408:
        return TimedOut(text, status=status)
    return Unavailable(text, status=status) if status >= 500 else BackendError(text, status=status)


def of_failure(error: BaseException, target: Target) -> BackendError:
    """The error for an exception raised by `_http.py`."""
    if isinstance(error, TooLarge):
        return too_large(target)
    if isinstance(error, UnusableEncoding):
        return BadReply(f"the reply of {target.label} is compressed in a way that is not supported")
    if isinstance(error, aiohttp.SocketTimeoutError):
        return TimedOut(f"{target.label} stopped answering")
    if isinstance(error, aiohttp.ClientPayloadError):
        return BadReply(f"{target.label} closed the connection before its reply was complete")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        refusal = Unreachable(
            f"{target.label} cannot be reached: the proxy answered with HTTP {error.status}",
            hint="check the proxy in the environment (HTTPS_PROXY), or add the host to NO_PROXY",
        )
        refusal.retryable = error.status >= 500
        return refusal
    if isinstance(error, aiohttp.ClientResponseError):
        return BadReply(
            f"the reply of {target.label} is not valid HTTP", hint="check the host and the port of base_url"
        )
    causes = tuple(_causes(error))
    reasons = (said for kind, said in _REASONS if any(isinstance(cause, kind) for cause in causes))
    unreachable = Unreachable(
        f"{target.label} cannot be reached: {next(reasons, 'the connection failed')}",
        hint="check base_url, and that the server is running",
    )
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        unreachable.hint = (
            "for a certificate of your own issuer, set SSL_CERT_FILE to the file with the issuer's certificate"
        )
        unreachable.retryable = False
    return unreachable


def too_large(target: Target) -> BadReply:
    error = BadReply(
        f"the reply of {target.label} exceeds the size limit", hint="check that the endpoint respects max_tokens"
    )
    error.retryable = False  # a retry would be as long again
    return error


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """The time in seconds that the endpoint asks to wait, given in seconds or as a date (RFC 9110, 10.2.3)."""
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        pass
    else:
        return max(0.0, seconds) if math.isfinite(seconds) else None
    try:
        when = parsedate_to_datetime(value)
        if when.tzinfo is None:
            when = when.replace(tzinfo=UTC)
        return max(0.0, (when - (now or datetime.now(UTC))).total_seconds())
    except (ValueError, OverflowError):
        return None


def _label(value: object) -> str:
    return str(value)[:_LABEL] if isinstance(value, str | int) else ""


def _of_too_many(error: StatusError, text: str) -> BackendError:
    if "insufficient_quota" in error.searched:
        return Refused(text, hint="the account's quota is used up", status=error.status)
    wait = retry_after(error.headers)
    hint = "lower max_concurrency" if wait is None else f"the endpoint asked to wait {wait:.0f} s"
    return RateLimited(text, hint=hint, retry_after=wait)


def _key_hint(target: Target) -> str:
    if target.key_env:
        return f"check the key in the environment variable {target.key_env}"
    return "set api_key_env to the name of the environment variable with the key"


def _redirect_hint(location: str, target: Target) -> str:
    """Redirects are not followed, because the key and the pictures must only be sent to the host in the team file."""
    try:
        address = urlsplit(location)
        where = (
            f"{address.scheme}://{address.netloc.rpartition('@')[2]}{address.path}"
            if address.hostname
            else address.path
        )
    except ValueError:  # "https://[" and the like
        where = ""
    if not where:
        return "it redirects without a location; check base_url"
    return f"it redirects to {target.scrub(where)}; if that is correct, set base_url accordingly"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes."""
    yield error
    if cause := error.__cause__ or error.__context__:
        yield from _causes(cause)
