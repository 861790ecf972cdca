"""Backend for a guidance service: `colm-vl serve` on another machine, which replaces the server model of this team.

    [server]
    backend = "colm"
    base_url = "http://gpu-box:8700"
    api_key_env = "COLM_KEY"

The service knows its server's model, prompts and limits. aiohttp is not imported before `connect`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from colm_vl.backends import _http_options

if TYPE_CHECKING:
    from colm_vl.backends._colm_client import ServiceBackend


class Options(_http_options.Options):
    """The service's address. `model` is only a label."""

    is_guide = True

    model: str = Field(default="guidance service", min_length=1, description="a label for traces")
    base_url: str = Field(description="the address of the service, such as http://gpu-box:8700")

    @field_validator("base_url")
    @classmethod
    def _without_version(cls, url: str) -> str:
        return url.removesuffix("/v1")


def connect(options: Options) -> ServiceBackend:
    """Makes no request. Raises `ConfigError` if the key's environment variable is not set."""
    key = options.key()
    from colm_vl.backends._colm_client import ServiceBackend

    return ServiceBackend(options, key)
