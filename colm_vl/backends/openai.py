"""Any OpenAI-compatible endpoint: vLLM, SGLang, Ollama, LM Studio, llama.cpp, hosted ones.

    [[clients]]
    name = "photos"
    backend = "openai"
    model = "llava:7b"
    base_url = "http://localhost:11434/v1"

Nothing of `aiohttp` is imported before `connect`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import ConfigDict, Field, field_validator

from colm_vl.backends import base
from colm_vl.errors import ConfigError

if TYPE_CHECKING:
    from colm_vl.backends._openai_client import OpenAIBackend

# What `extra_body` may not touch, since it is told elsewhere.
_RESERVED = frozenset({"model", "messages", "stream", "stream_options", "n"})


class Options(base.Options):
    """Where the model is served; retry, time-out and queue settings."""

    # A value that was refused may hold a secret (a key within the address).
    model_config = ConfigDict(hide_input_in_errors=True)

    keeps_time = True
    tries_schema = True
    neutral = frozenset(
        {"api_key_env", "max_concurrency", "max_retries", "queue_timeout", "retry_delay", "timeout_connect"}
    )

    base_url: str = Field(description="the address that /chat/completions is under, such as http://localhost:8000/v1")
    api_key_env: str | None = Field(
        default=None, min_length=1, description="the environment variable that holds the key; none: no key is sent"
    )
    max_concurrency: int = Field(
        default=8,
        ge=1,
        le=1000,
        description="requests in flight to this endpoint at most, over all members that use it; the smallest counts, "
        "and fewer are sent while the endpoint refuses some for their number",
    )
    queue_timeout: float = Field(
        default=base.MAX_QUEUE_SECONDS,
        gt=0,
        le=base.MAX_QUEUE_SECONDS,
        description="seconds that a call may wait until fewer are in flight; its time-out begins when it is sent",
    )
    max_retries: int = Field(default=3, ge=0, description="further attempts after a failure that may pass")
    retry_delay: float = Field(
        default=0.5, gt=0, allow_inf_nan=False, description="seconds before the first of them, doubled for each next"
    )
    timeout_connect: float = Field(
        default=5.0, gt=0, allow_inf_nan=False, description="seconds for the connection to be accepted"
    )
    detail: Literal["auto", "low", "high"] | None = Field(
        default=None, description="how closely pictures are looked at, where the endpoint knows the setting"
    )
    extra_body: Mapping[str, Any] = Field(
        default_factory=dict, description="more fields of the request, as this endpoint defines them"
    )

    @field_validator("base_url")
    @classmethod
    def _plain_address(cls, url: str) -> str:
        parts = _split(url)
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("expected an address that begins with http:// or https://")
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise ValueError("expected an address without user, password, query and fragment; keys go by api_key_env")
        if not url.isprintable() or " " in url or not _has_usable_port(parts):
            raise ValueError("expected an address without white space and with a port from 0 to 65535, if any")
        return url.rstrip("/")

    @field_validator("api_key_env")
    @classmethod
    def _names_a_variable(cls, name: str | None) -> str | None:
        if name is not None and (not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or _looks_like_a_key(name)):
            raise ValueError("expected the name of an environment variable that holds the key, not the key itself")
        return name

    @field_validator("extra_body")
    @classmethod
    def _adds_only(cls, body: Mapping[str, Any]) -> Mapping[str, Any]:
        if taken := sorted(_RESERVED & body.keys()):
            raise ValueError(f"{', '.join(taken)} cannot be set here")
        for name, value in body.items():
            if not _is_json(value):
                raise ValueError(f"{name} holds what JSON cannot, such as a date or nan; a date is written in quotes")
        return body


def _looks_like_a_key(name: str) -> bool:
    """Keys of some providers are made like names: `hf_…`, `gsk_…`, plain letters and digits. What is set in the
    environment is a name all the same."""
    if name in os.environ:
        return False
    random = any(len(word) >= 16 and re.search(r"\d|[a-z][A-Z]", word) for word in name.split("_"))
    return random or re.match(r"(hf|sk|pk|rk|gsk|xai|nvapi|pplx|ghp|r8)_", name) is not None


def _split(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:  # what it says repeats the address
        return None


def _has_usable_port(parts: SplitResult) -> bool:
    try:
        return parts.port is None or parts.port >= 0
    except ValueError:
        return False


def _is_json(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def connect(options: Options) -> OpenAIBackend:
    """Calls nothing yet. Raises ConfigError if the key's environment variable is not set."""
    key = _key(options.api_key_env)
    from colm_vl.backends._openai_client import OpenAIBackend

    return OpenAIBackend(options, key)


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ConfigError(
            f"environment variable {variable!r}, named by api_key_env, is not set",
            hint=f"export {variable}=..., or name another variable with api_key_env",
        )
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(
            f"environment variable {variable!r}, named by api_key_env, holds characters that no key has",
            hint=f"set {variable} to the key alone",
        )
    return key
