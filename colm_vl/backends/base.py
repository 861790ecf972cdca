"""What a model is to everything above it: a `Request` in, a `Generation` out.

A backend is one file in this folder that defines `Options`, what a member may set in the team file, and `connect`,
which makes a `Backend` of them. `registry.py` finds it by its file name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from colm_vl.types import Sent, Stage, Usage
from processors.images import Image

Role = Literal["system", "user", "assistant"]
Part = str | Image

MAX_QUEUE_SECONDS = 3600.0
"""How long a call may wait in this process before it is sent, unless the member's options say otherwise."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation: text and pictures in the order in which the model shall meet them."""

    role: Role
    parts: tuple[Part, ...]

    @property
    def images(self) -> tuple[Image, ...]:
        return tuple([part for part in self.parts if isinstance(part, Image)])

    @property
    def text(self) -> str:
        return "\n".join(part for part in self.parts if isinstance(part, str))


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn. `temperature` 0 is greedy; `seed` None leaves it to the backend."""

    max_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One call of one model.

    `continues` is the earlier generation of the same model whose conversation `messages` extends: all its messages,
    its reply as an assistant turn, then more. A backend may reuse what it kept of it, and must recompute otherwise.
    `timeout` is in seconds and begins when the call is sent: waiting for a place in this process's own queue does not
    count. Backends whose `Options.keeps_time` is False have it counted by the caller, from the moment the call is made.
    `schema` is a JSON schema that the reply is to be held to while it is decoded. A backend whose model takes none
    sends the messages `plain` instead, or raises Unsupported if there are none. `letters` are those of the choices:
    where a token is one of them, its `TokenLogprob.letters` is wanted.
    `stage` is what the reply is for. It tells wrappers and logs; no reply may depend on it.
    """

    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    continues: Generation | None = None
    timeout: float | None = None
    schema: Mapping[str, Any] | None = field(default=None, hash=False)
    plain: tuple[Message, ...] | None = None
    letters: tuple[str, ...] = ()
    stage: Stage | None = None

    @property
    def images(self) -> tuple[Image, ...]:
        return tuple([part for message in self.messages for part in message.parts if isinstance(part, Image)])


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A produced token, as text, with its natural-log probability under the model, before any schema is applied.

    `letters`: where the token is a letter of `Request.letters`, the log-probabilities of those letters in its place, as
    far as they are known.
    """

    token: str
    logprob: float
    letters: Mapping[str, float] | None = field(default=None, hash=False)


@dataclass(frozen=True, slots=True)
class Generation:
    """What a model wrote. `logprobs` covers the produced tokens in order, or is None where there are none to be had.
    `plain`: it replies to `Request.plain`, because the model takes no schema.

    `handle` is the backend's own: whatever it needs to continue this conversation cheaply. It never leaves the process.
    """

    text: str
    finish_reason: Literal["stop", "length"] = "stop"
    usage: Usage = Usage()
    sent: Sent = Sent()
    logprobs: tuple[TokenLogprob, ...] | None = None
    seconds: float = 0.0
    attempts: int = 1
    plain: bool = False
    handle: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a model can do. `images` is how many one request may carry: 0 for a text-only model, None for no known
    limit. `logprobs` None means that it is not known until the first call. `context` is in tokens."""

    images: int | None = None
    logprobs: bool | None = None
    context: int | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that a local model's weights take, and bytes that are free where they go."""

    weights: int
    free: int


class Backend(Protocol):
    """A model that can be asked. Many calls may be under way at once: how many run together is the backend's affair.

    Errors are of `colm_vl.errors.BackendError`, or `InputError` for a request that no retry would mend.
    """

    async def generate(self, request: Request) -> Generation: ...

    def stream(self, request: Request) -> AsyncIterator[str | Generation]:
        """Yields the reply's text piece by piece, and last the whole `Generation`. Closing it early stops the work."""
        ...

    async def capabilities(self) -> Capabilities:
        """May load the model, or ask the endpoint."""
        ...

    async def aclose(self) -> None: ...


class Options(BaseModel):
    """What every member may set for its model, whatever the backend. Backends add theirs in a subclass."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    in_process: ClassVar[bool] = False
    """Whether the model takes this process's memory; `max_loaded` counts those."""

    keeps_time: ClassVar[bool] = False
    """Whether the backend itself ends a call at `Request.timeout`, counted from when the call is sent."""

    tries_schema: ClassVar[bool] = False
    """Whether reply_format = "auto" asks for replies under a JSON schema."""

    neutral: ClassVar[frozenset[str]] = frozenset()
    """Options that say how the model is asked, not what it replies: changing them makes no finished call void."""

    model: str = Field(min_length=1)
    max_pixels: int | None = Field(default=None, ge=28 * 28, description="pictures are shrunk to this many pixels")
    max_images: int | None = Field(default=None, ge=0, description="pictures one request may carry")
    context: int | None = Field(default=None, ge=64, description="tokens of prompt and reply together")

    def memory(self) -> Memory | None:
        """What the model's weights will take in this process, where that is known before they are loaded. May take
        seconds; nothing is downloaded."""
        return None

    def deciding(self) -> dict[str, Any]:
        """What replies depend on beside the model, as plain values: the options that were set, neutral ones apart."""
        return self.model_dump(mode="json", exclude={"model", *self.neutral}, exclude_defaults=True)
