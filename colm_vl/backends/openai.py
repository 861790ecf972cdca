"""Backend for OpenAI-compatible endpoints: vLLM, SGLang, Ollama, LM Studio, llama.cpp, hosted ones.

    [[clients]]
    name = "photos"
    backend = "openai"
    model = "llava:7b"
    base_url = "http://localhost:11434/v1"

aiohttp is not imported before `connect`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from colm_vl.backends import _http_options

if TYPE_CHECKING:
    from colm_vl.backends._openai_client import OpenAIBackend

# Fields that `extra_body` may not set, since they are set elsewhere.
_RESERVED = frozenset({"model", "messages", "stream", "stream_options", "n"})


class Options(_http_options.Options):
    """The model's address, and what its endpoint supports beyond chat completions."""

    tries_schema = True
    neutral = _http_options.Options.neutral | {"engine", "hedge"}

    engine: Literal["vllm"] | None = Field(
        default=None,
        description="the engine at the endpoint, if its extensions are to be used: vllm is sent each picture once, and "
        "its uuid from then on",
    )
    hedge: bool = Field(
        default=False,
        description="ask a second time if a reply takes longer than 95 % of earlier ones, and take the faster one; for "
        "at most a tenth of the calls, and not for streamed ones",
    )
    detail: Literal["auto", "low", "high"] | None = Field(
        default=None, description="the detail setting of pictures, if the endpoint supports it"
    )
    extra_body: Mapping[str, Any] = Field(
        default_factory=dict, description="additional fields of the request body, as defined by the endpoint"
    )

    @field_validator("extra_body")
    @classmethod
    def _adds_only(cls, body: Mapping[str, Any]) -> Mapping[str, Any]:
        if taken := sorted(_RESERVED & body.keys()):
            raise ValueError(f"{', '.join(taken)} cannot be set here")
        for name, value in body.items():
            if not _is_json(value):
                raise ValueError(f"{name} is not valid JSON: dates must be in quotes, and nan and inf are not allowed")
        return body


def _is_json(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def connect(options: Options) -> OpenAIBackend:
    """Makes no request. Raises `ConfigError` if the key's environment variable is not set."""
    key = options.key()
    from colm_vl.backends._openai_client import OpenAIBackend

    return OpenAIBackend(options, key)
