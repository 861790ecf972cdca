"""From what goes wrong with an endpoint to our errors: one line each, without the key and without pictures."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import aiohttp
from openai import APIConnectionError, APIError, APIStatusError

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
_READ = 10_000  # of what an endpoint says of an error; a log as long as a book is not searched for its cause
_DATA_URI = re.compile(r"data:[\w.+-]+/[\w.+-]+;base64,[A-Za-z0-9+/=_-]*")

# How endpoints of different makes put the same thing.
_CONTEXT = re.compile(
    r"context[ _-]?(length|window|size)|maximum model length|max_model_len|prompt is too long|too many (input )?tokens"
    r"|maximum number of (input )?tokens|reduce the length",
    re.IGNORECASE,
)
_PICTURES = re.compile(
    r"not a multi-?modal|mmproj|unknown variant .?image_url"
    r"|\b(image|vision|multi-?modal)\w*\b.*\b(not support|unsupported|not enabled|may be provided)"
    r"|\b(not support|unsupported|at most|too many)\w*\b.*\b(image|vision|multi-?modal)",
    re.IGNORECASE,
)
_MODEL = re.compile(
    r"model_not_found|\bmodel\b.{0,120}\b(not found|does ?n[o']t exist)|invalid model|no such model", re.IGNORECASE
)
_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (aiohttp.ConnectionTimeoutError, "it did not accept the connection in time"),
    (aiohttp.ClientConnectorDNSError, "unknown host"),
    (aiohttp.ClientConnectorCertificateError, "its certificate cannot be verified"),
    (aiohttp.ClientProxyConnectionError, "the proxy does not answer"),
    (ConnectionRefusedError, "connection refused"),
    (aiohttp.ClientConnectorError, "the connection failed"),  # an OS error as well, but no connection that there was
    (aiohttp.ServerDisconnectedError, "the connection broke off"),
    (aiohttp.ClientOSError, "the connection broke off"),
)
"""What can go wrong with a connection, the special before the general."""
_NOT_TAKEN = re.compile(
    r"unsupported|not support|not permitted|forbidden|unrecognized|unexpected|unknown|only the default", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Place:
    """The model and endpoint that errors speak of, and the key that they must not tell."""

    model: str
    base_url: str
    key: str | None = field(repr=False)
    key_env: str | None

    @property
    def label(self) -> str:
        return f"{self.model!r} at {self.base_url}"

    def scrub(self, text: str) -> str:
        """One line of bounded length, without the key and without pictures."""
        text = _DATA_URI.sub("data:…", text)
        if self.key:
            text = text.replace(self.key, "[key]")
        text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
        return text if len(text) <= _CLIP else text[: _CLIP - 1] + "…"


def translate(error: APIError, place: Place) -> BackendError:
    """Our error for one of the SDK's."""
    if isinstance(error, APIStatusError):
        return _of_status(error, place)
    if isinstance(error, APIConnectionError):
        return _of_connection(error, place)
    said = place.scrub(message_of(error.body) or error.message)
    return BadReply(f"the reply of {place.label} broke off with an error: {said}")


def broke_off(place: Place) -> BadReply:
    return BadReply(f"{place.label} closed the connection before its reply was complete")


def refused_parameter(error: APIStatusError, sent: Collection[str]) -> str | None:
    """The parameter, of those sent, that the endpoint objects to as such, if that is what its error says."""
    said = message_of(error.body)
    if error.status_code not in (400, 422) or _CONTEXT.search(said):
        return None
    if "max_tokens" in sent and "max_completion_tokens" in said:
        return "max_tokens"
    taken_ill = _NOT_TAKEN.search(f"{said} {error.code}")
    for name in sent:
        # There is nothing wrong with the values of these two but that they are there; others may be out of range.
        always = name in ("logprobs", "stream_options")
        if (error.param == name or re.search(rf"\b(top_)?{name}\b", said)) and (always or taken_ill):
            return name
    return None


def message_of(body: object) -> str:
    """What the endpoint itself says in the body of an error; nothing for a page of HTML."""
    if isinstance(body, Mapping):
        for name in ("error", "message", "detail", "msg"):
            if body.get(name):
                return message_of(body[name])
        return ""
    if isinstance(body, list):
        return json.dumps(body, ensure_ascii=False, default=str)[:_READ]
    text = str(body or "").strip()[:_READ]
    return "" if text.startswith("<") else text


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that the endpoint asks to wait, given as such or as a date (RFC 9110, 10.2.3)."""
    value = headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - (now or datetime.now(UTC))).total_seconds())


def _of_status(error: APIStatusError, place: Place) -> BackendError:
    status = error.status_code
    said = message_of(error.body)
    shown = place.scrub(said)
    text = f"{place.label}: HTTP {status}" + (f": {shown}" if shown else "")
    searched = f"{said} {error.code} {error.type}"
    if status == 429:
        return _of_too_many(error, text, searched)
    if status in (401, 402, 403):
        return Refused(text, hint=_key_hint(place), status=status)
    if status == 404:
        return ModelNotFound(text, hint="check model, and base_url: most end in /v1", status=status)
    if 300 <= status < 400:
        return BackendError(text, hint=_redirect_hint(error.response.headers.get("location", ""), place), status=status)
    if status == 413:
        return Unsupported(text, hint="lower max_pixels, or send fewer pictures", status=status)
    if status < 500 and _MODEL.search(searched):
        return ModelNotFound(text, hint="check model", status=status)
    # Some answer these two with 500.
    if _CONTEXT.search(searched):
        hint = "shorten the question, lower max_pixels or max_tokens, or serve the model with a longer context"
        return ContextTooLong(text, hint=hint, status=status)
    if _PICTURES.search(searched):
        return Unsupported(text, hint="set max_images to what the model takes, 0 for text only", status=status)
    if status == 408:
        return TimedOut(text, status=status)
    return Unavailable(text, status=status) if status >= 500 else BackendError(text, status=status)


def _of_too_many(error: APIStatusError, text: str, searched: str) -> BackendError:
    if "insufficient_quota" in searched:
        return Refused(text, hint="the account's quota is used up", status=error.status_code)
    wait = retry_after(error.response.headers)
    hint = "lower max_concurrency" if wait is None else f"asked to wait {wait:.0f} s"
    return RateLimited(text, hint=hint, retry_after=wait)


def _key_hint(place: Place) -> str:
    if place.key_env:
        return f"check the key in the environment variable {place.key_env}"
    return "name the environment variable that holds the key with api_key_env"


def _redirect_hint(location: str, place: Place) -> str:
    """Not followed: the request holds a key and pictures, meant for the host in the team file and for no other."""
    target = urlsplit(location)
    where = f"{target.scheme}://{target.netloc.rpartition('@')[2]}{target.path}" if target.hostname else target.path
    return f"it redirects to {place.scrub(where)}; if that is right, set base_url accordingly"


def _of_connection(error: APIConnectionError, place: Place) -> BackendError:
    """Told by what aiohttp raised: the SDK's own classes take a refused connection for a slow one."""
    causes = tuple(_causes(error))
    for cause in causes:
        if isinstance(cause, aiohttp.SocketTimeoutError):
            return TimedOut(f"{place.label} stopped answering")
        if isinstance(cause, aiohttp.ClientPayloadError):
            return broke_off(place)
    reasons = (said for kind, said in _REASONS if any(isinstance(cause, kind) for cause in causes))
    why = next(reasons, "the connection failed")
    return Unreachable(f"{place.label} cannot be reached: {why}", hint="check base_url, and that the server runs")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came of."""
    yield error
    if cause := error.__cause__ or error.__context__:
        yield from _causes(cause)
