"""What the operator of a service allows: read from a TOML file, or the defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from colm_vl._tables import Table, validate
from colm_vl._toml import read_toml
from colm_vl.errors import ConfigError
from colm_vl.service.pictures import PictureLimits
from colm_vl.types import MAX_CHOICES
from processors.errors import ImageError
from processors.fetching import FetchPolicy

LogFormat = Literal["text", "json"]


class Limits(Table):
    """Bounds of one request. Requests beyond them are refused, not shortened."""

    body_bytes: int = Field(default=32 << 20, ge=1024, description="bytes of a request body")
    images: int = Field(default=16, ge=0, description="pictures, including those of earlier turns")
    pixels: int = Field(default=32_000_000, ge=28 * 28, description="pixels of one picture")
    all_pixels: int = Field(default=64_000_000, ge=28 * 28, description="pixels of all pictures together")
    question: int = Field(default=32_000, ge=1, description="characters of the question")
    choices: int = Field(default=MAX_CHOICES, ge=0, le=MAX_CHOICES, description="number of choices")
    choice: int = Field(default=2_000, ge=1, description="characters of one choice")
    turns: int = Field(default=200, ge=1, description="messages of a conversation")
    conversation: int = Field(default=200_000, ge=1, description="characters of a conversation")
    tokens: int = Field(default=4096, ge=1, description="tokens of one reply of a member")
    rounds: int = Field(default=3, ge=1, le=10, description="rounds of guidance and refinement")
    samples: int = Field(default=10, ge=1, description="samples of self_consistency")


class Queueing(Table):
    places: int = Field(default=4, ge=1, description="calls of the server at the same time")
    waiting: int = Field(default=1024, ge=1, description="calls that may wait for the server")
    waiting_each: int = Field(default=256, ge=1, description="calls of one key that may wait for the server")


class Pictures(Table):
    """Uploaded pictures, which are kept in memory."""

    bytes_each: int = Field(default=128 << 20, ge=1024, description="bytes of the pictures of one key")
    bytes_all: int = Field(default=1 << 30, ge=1024, description="bytes of all pictures")
    age: float = Field(default=3600.0, gt=0, description="seconds after its last use for which a picture is kept")
    decoded_bytes: int = Field(default=256 << 20, ge=0, description="bytes of decoded pictures that are kept")


class Settings(Table):
    limits: Limits = Limits()
    pictures: Pictures = Pictures()
    queue: Queueing = Queueing()
    strategies: tuple[str, ...] | None = Field(
        default=None, description="the models offered, such as colm, vote, solo:charts; all if not set"
    )
    policies: tuple[str, ...] = Field(
        default=("rounds", "gate", "share", "top_k", "select", "settle", "asker", "blind", "reason", "samples"),
        description="policy keys that a request may set; share only to less than the team's policy",
    )
    image_hosts: tuple[str, ...] = Field(
        default=(), description="hosts from which pictures are fetched over https; none if empty"
    )
    cors_origins: tuple[str, ...] = Field(default=(), description="origins whose web pages may call this service")
    keep_alive: float = Field(default=5.0, gt=0, description="seconds between comments in a silent stream")
    ignore_tools: bool = Field(
        default=False, description="whether tools that a request only offers are ignored, not refused"
    )
    mcp: bool = Field(default=False, description="whether MCP clients can ask the team, at /mcp (extra mcp)")
    metrics_keys: tuple[str, ...] = Field(default=(), description="names of the keys that may read /metrics")
    log_content: bool = Field(default=False, description="whether log lines contain questions and answers")
    grace: float = Field(default=30.0, ge=0, description="seconds that running requests get to end at SIGTERM")
    ready_for: float = Field(default=60.0, gt=0, description="seconds for which a check of the members counts")

    @field_validator("image_hosts")
    @classmethod
    def _are_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        try:
            FetchPolicy(hosts)
        except ImageError as error:
            raise ValueError(str(error)) from None
        return hosts

    @property
    def picture_limits(self) -> PictureLimits:
        kept = self.pictures
        return PictureLimits(kept.bytes_each, kept.bytes_all, kept.age, self.limits.pixels, kept.decoded_bytes)

    @property
    def fetch(self) -> FetchPolicy | None:
        return FetchPolicy(self.image_hosts) if self.image_hosts else None

    @classmethod
    def load(cls, file: Path) -> Settings:
        """Raises `ConfigError` naming the file and the key."""
        data = read_toml(file, "service file")
        if not data:
            raise ConfigError(f"{file.name}: is empty", hint="leave --config out for the defaults")
        return validate(cls, data, file.name)
