"""Immutable values shared by all parts of the project.

A `Trace` is the record of one question: the API returns it, batches store it, the evaluation scores it and the page
displays it. `to_dict` and `from_dict` convert it to and from JSON, with a schema version.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from types import MappingProxyType
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from colm_vl._trace_schema import SCHEMA_VERSION, upgraded
from colm_vl.errors import InputError
from processors.images import Image

MAX_CHOICES = 26

Stage = Literal["select", "draft", "prefetch", "guide", "verdict", "refine", "settle"]
"""In order. `verdict` replaces `guide` in strategies in which the server answers itself. During `prefetch`, which runs
beside `draft`, the server reads the pictures and the question."""

STAGE_TITLES: Mapping[Stage, str] = MappingProxyType(
    {
        "select": "Selection",
        "draft": "Drafts",
        "prefetch": "Prefetch",
        "guide": "Guidance",
        "verdict": "Verdict",
        "refine": "Refined answers",
        "settle": "Answer",
    }
)
Share = Literal["images", "thumbnails", "captions"]
Flaw = Literal["copied", "repeated"]
"""What was cut out before a reply was read: sentences that it copied from its own prompt, or what it repeated over and
over."""


@dataclass(frozen=True, slots=True)
class EarlierTurn:
    """A turn of the conversation before the question. `images` is the number of pictures that came with it."""

    role: Literal["system", "user", "assistant"]
    text: str
    images: int = 0


@dataclass(frozen=True, slots=True)
class Query:
    """A question with optional pictures and choices (2 to 26, lettered A, B, …).

    `history` are the earlier turns of a conversation. All pictures are in `images`, those of earlier turns first.
    `id` identifies it in files and reports. `metadata` is copied to the trace; in a batch, values that JSON does not
    have, such as dates and NaN, are converted to strings. Raises `InputError` if the question is invalid.
    """

    question: str
    images: tuple[Image, ...] = ()
    choices: tuple[str, ...] = ()
    id: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict, compare=False)
    history: tuple[EarlierTurn, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.id, str):
            raise InputError(f"the id is of type {type(self.id).__name__}, expected a text", hint="pass a str")
        for text in (self.question, *self.choices):
            if not isinstance(text, str):
                raise InputError(f"a question or choice is a {type(text).__name__}, expected a text", hint="pass a str")
        for image in self.images:
            if not isinstance(image, Image):
                raise InputError(
                    f"a picture of a Query is a {type(image).__name__}, expected an Image",
                    hint="open it first, such as Image.open(path)",
                )
        if not self.question.strip():
            raise InputError("the question is empty", hint="say what you want to know")
        if len(self.choices) == 1 or len(self.choices) > MAX_CHOICES:
            raise InputError(
                f"{len(self.choices)} choices given, expected none or 2 to {MAX_CHOICES}",
                hint="leave the choices out for an open answer",
            )
        if any(not choice.strip() for choice in self.choices):
            raise InputError("one of the choices is empty", hint="give every choice a text")
        for text in (self.question, *self.choices, *(turn.text for turn in self.history)):
            # Python decodes command lines and files of another encoding to lone surrogates, which cannot be encoded.
            if broken := re.search("[\ud800-\udfff]", text):
                what = "question" if text is self.question else "choice" if text in self.choices else "earlier turn"
                raise InputError(
                    f"the {what} {_start(text)} is not UTF-8 text, from character {broken.start() + 1} on",
                    hint="write it in UTF-8 (iconv -f latin1 -t utf-8)",
                )

    @property
    def letters(self) -> tuple[str, ...]:
        return tuple(chr(ord("A") + index) for index in range(len(self.choices)))


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one or more calls. `cached_tokens` is the part of `prompt_tokens` that was read from a prefix cache."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.cached_tokens + other.cached_tokens,
            self.completion_tokens + other.completion_tokens,
        )


@dataclass(frozen=True, slots=True)
class Sent:
    """What one or more calls sent: the bytes of the request bodies, the pictures and their pixels.

    For a model in this process, `bytes` is 0; pictures and pixels are counted.
    """

    bytes: int = 0
    images: int = 0
    pixels: int = 0

    def __add__(self, other: Sent) -> Sent:
        return Sent(self.bytes + other.bytes, self.images + other.images, self.pixels + other.pixels)


@dataclass(frozen=True, slots=True)
class Timing:
    """The parts of a call's duration in seconds; None where unknown.

    `queued`: it waits for its model to be loaded and free, for a slot at its endpoint, or in the queue of a service.
    `prefill`: from then until the first token. For an endpoint, this includes sending the request and waiting there.
    `decode`: from the first token until the reply is complete.
    """

    queued: float | None = None
    prefill: float | None = None
    decode: float | None = None

    @property
    def known(self) -> float:
        """The sum of the known parts."""
        return (self.queued or 0.0) + (self.prefill or 0.0) + (self.decode or 0.0)

    def after(self, waited: float) -> Timing:
        """The same call after `waited` seconds in one more queue. It stays unknown how long it waited if it was."""
        return self if self.queued is None else replace(self, queued=self.queued + waited)


@dataclass(frozen=True, slots=True)
class Confidence:
    """A client's confidence in its answer, from 0 to 1, and its source.

    `logprobs`: with choices, the probability of the chosen letter among their letters, if the model or the endpoint
    gives theirs; else the mean probability of the answer's tokens. `stated`: the model wrote it. `unknown`: there is
    none. A client that says that it does not know has a confidence of 0, if it has one.
    """

    value: float | None = None
    source: Literal["logprobs", "stated", "unknown"] = "unknown"


@dataclass(frozen=True, slots=True)
class ClientReply:
    """A client's reply.

    `text` is the reply as written and `answer` the answer read from it, empty if none could be read. With choices,
    `answer` is the text of the choice and `choice` its letter.
    """

    client: str
    text: str
    answer: str
    choice: str | None = None
    caption: str = ""
    confidence: Confidence = Confidence()
    flaws: tuple[Flaw, ...] = field(default=(), kw_only=True)

    @property
    def readable(self) -> bool:
        return bool(self.answer)


@dataclass(frozen=True, slots=True)
class Draft(ClientReply):
    """A client's first reply, written without knowledge of the others. `sample` counts from 1 if one client drafts
    several times, and is 0 otherwise."""

    sample: int = 0


@dataclass(frozen=True, slots=True)
class Refinement(ClientReply):
    """A client's reply after guidance or its peers' drafts. `changed`: the answer differs from its previous one."""

    round: int = 1
    changed: bool = False


@dataclass(frozen=True, slots=True)
class Guidance:
    """What the server wrote for the clients. A part is empty if the reply does not label it. `shown` is the
    part of `text` that clients get, if that is not all of it."""

    server: str
    text: str
    round: int = 1
    evidence: str = ""
    disagreement: str = ""
    check: str = ""
    flaws: tuple[Flaw, ...] = field(default=(), kw_only=True)
    shown: str = field(default="", kw_only=True)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The server's own answer, in strategies in which it answers."""

    server: str
    text: str
    answer: str
    choice: str | None = None
    caption: str = ""
    confidence: Confidence = Confidence()
    flaws: tuple[Flaw, ...] = field(default=(), kw_only=True)


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed call. `kind` is that of a class in `colm_vl.errors`; `message` and `hint` can be shown to users.

    `member` is None if the question as a whole failed, for instance because a picture cannot be opened. `started` and
    `seconds` are as in `Call`.
    """

    member: str | None
    stage: Stage
    kind: str
    message: str
    hint: str = ""
    round: int = 0
    started: float = field(default=0.0, compare=False)
    seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Late:
    """A client that was no longer waited for, because enough others had replied (`policy.quorum`). `waited` is the time
    in seconds since the stage began."""

    member: str
    stage: Stage
    round: int
    waited: float


@dataclass(frozen=True, slots=True)
class Selection:
    """The clients that take part, and why. `dropped` are names in the server's reply that are not clients."""

    clients: tuple[str, ...]
    method: Literal["all", "server", "specialty", "asked"] = "all"
    dropped: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """A gate's decision whether to ask the server in this round, and the reason.

    `shadow`: the gate would have skipped the server, but it was asked anyway, so that a comparison of drafts and
    refinements shows what skipping would have cost. `certificate` is the SHA-256 of the certificate of a calibrated
    gate.
    """

    asked: bool
    reason: str
    round: int = 0
    shadow: bool = False
    certificate: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """Time and usage of one model call. `started` is in seconds since the start of the question. `reused`: the outcome
    was read from a call store, and no call was made; `timing` is then that of the call that was made."""

    member: str
    stage: Stage
    round: int = 0
    started: float = 0.0
    seconds: float = 0.0
    usage: Usage = Usage()
    sent: Sent = Sent()
    attempts: int = 1
    reused: bool = False
    sample: int = 0
    timing: Timing = Timing()


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What a trace keeps of a picture: enough to identify it, but not the picture itself.

    `digest` is that of its pixels. `file_digest` is the SHA-256 of the file from which it was decoded, if any.
    """

    digest: str
    width: int
    height: int
    source: str = ""
    note: str = ""
    file_digest: str = ""


@dataclass(frozen=True, slots=True)
class MemberInfo:
    """`prompts` is the name of the prompt profile by which the member was asked, `prompts_fingerprint` the SHA-256 over
    its sentences, `fingerprint` that of its model and settings; all are empty in traces of earlier versions."""

    name: str
    role: Literal["client", "server"]
    backend: str
    model: str
    specialty: str = ""
    prompts: str = ""
    prompts_fingerprint: str = ""
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Settlement:
    """The final answer and how it was reached: the asking client's answer, a vote, or the server's answer. `by` are the
    members that gave it; `votes` maps each answer to its voters."""

    answer: str
    choice: str | None = None
    method: Literal["asker", "vote", "server"] = "asker"
    by: tuple[str, ...] = ()
    votes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trace:
    """The record of one question."""

    question: str
    strategy: str
    id: str = ""
    choices: tuple[str, ...] = ()
    images: tuple[ImageInfo, ...] = ()
    members: tuple[MemberInfo, ...] = ()
    asker: str = ""
    selection: Selection | None = None
    drafts: tuple[Draft, ...] = ()
    guidance: tuple[Guidance, ...] = ()
    refinements: tuple[Refinement, ...] = ()
    verdict: Verdict | None = None
    gates: tuple[Decision, ...] = ()
    failures: tuple[Failure, ...] = ()
    late: tuple[Late, ...] = ()
    settlement: Settlement | None = None
    fallback: str = ""
    calls: tuple[Call, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    metadata: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION
    history: tuple[EarlierTurn, ...] = ()

    @property
    def answer(self) -> str:
        """The final answer, or "" if there is none. With choices, it is the choice's text; `choice` is its letter."""
        return self.settlement.answer if self.settlement else ""

    @property
    def choice(self) -> str | None:
        return self.settlement.choice if self.settlement else None

    @property
    def degraded(self) -> bool:
        """Whether a call failed or a fallback was used."""
        return bool(self.failures or self.fallback)

    @property
    def usage(self) -> Usage:
        return sum((call.usage for call in self.calls), Usage())

    @property
    def sent(self) -> Sent:
        """What the successful calls sent. For failed calls the amount is unknown."""
        return sum((call.sent for call in self.calls), Sent())

    @property
    def final(self) -> Mapping[str, ClientReply]:
        """Each client's latest reply: its last readable refinement, or else its draft."""
        latest: dict[str, ClientReply] = {}
        for reply in (*self.drafts, *self.refinements):
            if reply.readable or reply.client not in latest:
                latest[reply.client] = reply
        return latest

    def to_dict(self) -> dict[str, Any]:
        data: dict[str, Any] = _trace_adapter().dump_python(self, mode="json")
        return data | {"answer": self.answer, "choice": self.choice, "degraded": self.degraded}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Trace:
        """Also reads earlier versions. Raises `InputError` if the record is not a trace or has a newer schema."""
        data = upgraded(data)
        derived = {"answer", "choice", "degraded"}
        try:
            return _trace_adapter().validate_python({k: v for k, v in data.items() if k not in derived})
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(step) for step in first["loc"])
            raise InputError(f"not a trace: {where}: {first['msg']}") from None

    @classmethod
    def from_json(cls, data: bytes) -> Trace:
        """Like `from_dict(json.loads(data))`, and faster. Raises `InputError` also if `data` is not JSON."""
        try:
            trace = _trace_adapter().validate_json(data)
        except ValidationError:
            pass  # of an earlier version, not a trace, or with half of a surrogate pair, which only `json` reads
        else:
            if trace.schema_version == SCHEMA_VERSION:
                return trace
        try:
            found = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise InputError(f"not a trace: not JSON ({error})") from None
        if not isinstance(found, dict):
            raise InputError(f"not a trace: is a {type(found).__name__}, expected an object")
        return cls.from_dict(found)

    def with_metadata(self, metadata: Mapping[str, Any]) -> Trace:
        return replace(self, metadata=dict(metadata))


def _start(text: str) -> str:
    return ascii(text if len(text) <= 40 else f"{text[:40]}...")


@cache
def _trace_adapter() -> TypeAdapter[Trace]:
    return TypeAdapter(Trace)
