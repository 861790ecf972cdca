"""The options of backends that call an HTTP endpoint: its address, its key; retries, timeouts, and queueing."""

from __future__ import annotations

import os
import re
from urllib.parse import SplitResult, urlsplit

from pydantic import ConfigDict, Field, field_validator

from colm_vl.backends import base
from colm_vl.errors import ConfigError


class Options(base.Options):
    # An invalid value can contain a secret, such as a key within the address.
    model_config = ConfigDict(hide_input_in_errors=True)

    keeps_time = True
    neutral = frozenset(
        {"api_key_env", "max_concurrency", "max_retries", "queue_timeout", "retry_delay", "timeout_connect"}
    )

    base_url: str = Field(description="the address without /chat/completions, such as http://localhost:8000/v1")
    api_key_env: str | None = Field(
        default=None, min_length=1, description="name of the environment variable with the key; no key if not set"
    )
    max_concurrency: int = Field(
        default=8,
        ge=1,
        le=1000,
        description="maximum number of concurrent requests to this endpoint, shared by all members that use it; the "
        "smallest value applies, and it is reduced while the endpoint refuses requests or lets them time out",
    )
    queue_timeout: float = Field(
        default=base.MAX_QUEUE_SECONDS,
        gt=0,
        le=base.MAX_QUEUE_SECONDS,
        description="seconds that a call may wait in the queue; its timeout starts when it is sent",
    )
    max_retries: int = Field(default=3, ge=0, description="maximum number of retries after a temporary failure")
    retry_delay: float = Field(
        default=0.5,
        gt=0,
        allow_inf_nan=False,
        description="seconds before the first retry, doubled for each further one",
    )
    timeout_connect: float = Field(
        default=5.0, gt=0, allow_inf_nan=False, description="timeout for opening a connection in seconds"
    )

    @field_validator("base_url")
    @classmethod
    def _plain_address(cls, url: str) -> str:
        parts = _split(url)
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("expected an address that begins with http:// or https://")
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise ValueError("expected an address without user, password, query or fragment; set keys with api_key_env")
        if not url.isprintable() or " " in url or not _has_usable_port(parts):
            raise ValueError("expected an address without white space and with a port from 0 to 65535, if any")
        return url.rstrip("/")

    @field_validator("api_key_env")
    @classmethod
    def _names_a_variable(cls, name: str | None) -> str | None:
        if name is not None and (not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or _looks_like_a_key(name)):
            raise ValueError("expected the name of an environment variable that holds the key, not the key itself")
        return name

    def key(self) -> str | None:
        """The key, from the environment. Raises `ConfigError` if the variable is not set."""
        return _key(self.api_key_env)


def _looks_like_a_key(name: str) -> bool:
    """Whether the text looks like a key of a provider: `hf_…`, `gsk_…`, or long random letters and digits. Variables
    that exist in the environment are always names."""
    if name in os.environ:
        return False
    random = any(len(word) >= 16 and re.search(r"\d|[a-z][A-Z]", word) for word in name.split("_"))
    return random or re.match(r"(hf|sk|pk|rk|gsk|xai|nvapi|pplx|ghp|r8)_", name) is not None


def _split(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:  # its message would repeat the address
        return None


def _has_usable_port(parts: SplitResult) -> bool:
    try:
        return parts.port is None or parts.port >= 0
    except ValueError:
        return False


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
            f"environment variable {variable!r}, named by api_key_env, contains characters that are invalid in a key",
            hint=f"set {variable} to the key only",
        )
    return key
