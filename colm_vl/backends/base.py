"""The interface of backends: a `Request` in, a `Generation` out.

A backend is a module in this folder that defines `Options`, the settings of a member in a team file, and
`connect(options)`, which returns a `Backend`. `registry.py` finds it by its file name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from colm_vl.types import Sent, Stage, Timing, Usage
from processors.images import Image

Role = Literal["system", "user", "assistant"]
Part = str | Image

MAX_QUEUE_SECONDS = 3600.0
"""How long a call may wait in this process before it is sent, unless the member's options say otherwise."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation: texts and pictures in order."""

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
    """Sampling parameters. With `temperature` 0, decoding is greedy. With `seed` None, the backend chooses a seed."""

    max_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One call of one model.

    `continues` is an earlier generation of the same model. `messages` extends its conversation, or begins like it. A
    backend can reuse what it has cached of the common beginning, and must otherwise compute it again.
    `timeout` is in seconds and starts when the call is sent; waiting in a queue of this process does not count. For
    backends with `Options.keeps_time` False, the caller applies it, starting with the call.
    `schema` is a JSON schema for the reply. If the model does not support schemas, the backend sends the messages
    `plain` instead, or raises `Unsupported` if there are none. `letters` are those of the choices: if a token is one of
    them, the backend sets its `TokenLogprob.letters` if it can.
    `stage` is only for wrappers and logs; replies must not depend on it. `scope` identifies the user for whom the call
    is made, if one process serves several users. Data cached for one user must not be used for another.
    """

    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    continues: Generation | None = None
    timeout: float | None = None
    schema: Mapping[str, Any] | None = field(default=None, hash=False)
    plain: tuple[Message, ...] | None = None
    letters: tuple[str, ...] = ()
    stage: Stage | None = None
    scope: str = ""

    @property
    def images(self) -> tuple[Image, ...]:
        return tuple([part for message in self.messages for part in message.parts if isinstance(part, Image)])


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A generated token, as text, and its natural log-probability under the model, before a schema is applied.

    `letters`: if the token is a letter of `Request.letters`, the log-probabilities of these letters at its position, as
    far as they are known.
    """

    token: str
    logprob: float
    letters: Mapping[str, float] | None = field(default=None, hash=False)


@dataclass(frozen=True, slots=True)
class Generation:
    """A model's reply. `logprobs` contains the generated tokens in order, or is None if they are not available.
    `plain`: it is a reply to `Request.plain`, because the model does not support schemas. `reading` is the reply as
    parsed by a service, stored with the text; None if the caller has to parse the text.

    `handle` is private to the backend, which uses it to continue the conversation efficiently. It is never stored.
    """

    text: str
    finish_reason: Literal["stop", "length"] = "stop"
    usage: Usage = Usage()
    sent: Sent = Sent()
    logprobs: tuple[TokenLogprob, ...] | None = None
    seconds: float = 0.0
    attempts: int = 1
    plain: bool = False
    reading: Mapping[str, Any] | None = field(default=None, hash=False)
    handle: Any = field(default=None, compare=False, repr=False)
    timing: Timing = field(default=Timing(), kw_only=True)


@dataclass(frozen=True, slots=True)
class QueuePlace:
    """The place of a call in an endpoint's queue. `ahead` is the number of calls that will be served before it, or None
    once it no longer waits."""

    ahead: int | None


Piece = str | QueuePlace | Generation
"""What a stream yields."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a model supports. `images` is the maximum number in a request: 0 for a text-only model, None if there is no
    known limit. `logprobs` is None if it is not known before the first call. `context` is in tokens."""

    images: int | None = None
    logprobs: bool | None = None
    context: int | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Memory:
    """The bytes that a local model's weights need, and the bytes that are free on their device."""

    weights: int
    free: int


Quantization = Literal["none", "int8", "nf4"]


@dataclass(frozen=True, slots=True)
class Footprint:
    """The memory that a local model needs in this process, in bytes, with requests of up to `tokens` tokens each.

    `weights` are by quantization; `quantization` is the one that is set; `besides` is for tokenizer and buffers.
    `free` is what is free now, on the GPU or in main memory.

    For each request, `picture_tokens` of its tokens are pictures, `key_values` are those of all its tokens, `seeing`
    and `reading` are the largest tensors while its pictures and its prompt are computed, and `kept` is what the prefix
    cache keeps of it, with a limit of `kept_at_most` for all requests.

    `saved` is the size of the files from which weights are converted while loading, 0 if they are used as saved. The
    system can take this part of the memory back.
    """

    weights: Mapping[Quantization, int]
    quantization: Quantization
    besides: int
    tokens: int
    picture_tokens: int
    key_values: int
    seeing: int
    reading: int
    kept: int
    kept_at_most: int
    saved: int
    on_gpu: bool
    free: int

    def running(self, requests: int, quantization: Quantization | None = None) -> int:
        """Bytes at most while `requests` are answered at the same time."""
        weights = self.weights[quantization or self.quantization]
        return weights + self.besides + min(requests * self.kept, self.kept_at_most) + requests * self.request

    @property
    def loading(self) -> int:
        """Bytes at most while the model is loaded, with the files that the system can drop from memory."""
        return self.weights[self.quantization] + self.besides + self.saved

    @property
    def request(self) -> int:
        """Bytes at most for one request: while its pictures are computed, its prompt, or its reply, for which keys and
        values are copied with each token."""
        return max(self.seeing, self.reading + self.key_values, 2 * self.key_values)


class Backend(Protocol):
    """A connection to a model. Calls can run concurrently; the backend limits or batches them itself.

    It raises `colm_vl.errors.BackendError`, or `InputError` for a request that can never succeed. An object that is
    passed to `AsyncCoLM` can set `keeps_time = True`, with the meaning of `Options.keeps_time`.
    """

    async def generate(self, request: Request) -> Generation: ...

    def stream(self, request: Request) -> AsyncIterator[Piece]:
        """Yield the reply's text piece by piece, and last the whole `Generation`. Closing it early cancels the call.

        Before the text, it can yield the call's place in a queue each time that it changes."""
        ...

    async def capabilities(self) -> Capabilities:
        """Can load the model or call the endpoint."""
        ...

    async def aclose(self) -> None: ...


class Options(BaseModel):
    """The options that all backends have in common. Backends add their own in a subclass."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    in_process: ClassVar[bool] = False
    """Whether the model is loaded into this process. `max_loaded` limits these models."""

    keeps_time: ClassVar[bool] = False
    """Whether the backend itself applies `Request.timeout`, starting when the call is sent."""

    tries_schema: ClassVar[bool] = False
    """Whether reply_format = "auto" asks for replies under a JSON schema."""

    is_guide: ClassVar[bool] = False
    """Whether it is a guidance service, which takes requests of `colm_vl.guidance_protocol` in place of prompts."""

    neutral: ClassVar[frozenset[str]] = frozenset()
    """Options that do not affect replies, such as retry and timeout settings. Finished calls remain valid if they
    change."""

    model: str = Field(min_length=1, description="name or id of the model")
    max_pixels: int | None = Field(default=None, ge=28 * 28, description="larger pictures are reduced to this size")
    max_images: int | None = Field(default=None, ge=0, description="maximum number of pictures in a request")
    context: int | None = Field(default=None, ge=64, description="maximum number of tokens of prompt and reply")

    def memory(self) -> Memory | None:
        """The memory that the weights will need in this process; None if it cannot be estimated without loading
        them. May take seconds; downloads nothing."""
        return None

    def footprint(self, request: Request) -> Footprint | None:
        """The memory that requests like this one need in this process; None if the model is not in this process. May
        take seconds; downloads nothing. Raises `ColmError` if it cannot be estimated."""
        return None

    def deciding(self) -> dict[str, Any]:
        """The options on which replies depend, as plain values: those that are set, except for the neutral ones."""
        return self.model_dump(mode="json", exclude={"model", *self.neutral}, exclude_defaults=True)
