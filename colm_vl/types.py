"""The values that pass between the parts: frozen, comparable, free of behaviour that needs a model.

A `Trace` is the one record of a question. The API returns it, the journal stores it, the evaluation scores it, the page
draws it. `to_dict` and `from_dict` round-trip it through JSON, under `SCHEMA_VERSION`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from types import MappingProxyType
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from colm_vl.errors import InputError
from processors.images import Image

SCHEMA_VERSION = 2
"""2: a verdict is a stage of its own, a failure of the question as a whole names no member, and `pictures` are
`images`."""
MAX_CHOICES = 26

Stage = Literal["select", "draft", "guide", "verdict", "refine", "settle"]
"""In the order in which they happen; `verdict` takes the place of `guide` where the server answers itself."""

STAGE_TITLES: Mapping[Stage, str] = MappingProxyType(
    {
        "select": "Selection",
        "draft": "Drafts",
        "guide": "Guidance",
        "verdict": "Verdict",
        "refine": "Refined answers",
        "settle": "Answer",
    }
)
Share = Literal["images", "thumbnails", "captions"]


@dataclass(frozen=True, slots=True)
class Query:
    """A question, with its pictures and its choices (up to 26, lettered A, B, …) where it has any.

    `id` names it in files and reports. `metadata` is carried through, in a batch as JSON can hold it: dates, NaN and
    the like as their text. Raises `InputError` for a question that cannot be asked.
    """

    question: str
    images: tuple[Image, ...] = ()
    choices: tuple[str, ...] = ()
    id: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.id, str):
            raise InputError(f"the id is of type {type(self.id).__name__}, expected a text", hint="pass a str")
        for text in (self.question, *self.choices):
            if not isinstance(text, str):
                raise InputError(f"a question or choice is a {type(text).__name__}, expected a text", hint="pass a str")
        if not self.question.strip():
            raise InputError("the question is empty", hint="say what you want to know")
        if len(self.choices) == 1 or len(self.choices) > MAX_CHOICES:
            raise InputError(
                f"{len(self.choices)} choices given, expected none or 2 to {MAX_CHOICES}",
                hint="leave the choices out for an open answer",
            )
        if any(not choice.strip() for choice in self.choices):
            raise InputError("one of the choices is empty", hint="give every choice a text")
        for text in (self.question, *self.choices):
            # Lone surrogates: what Python makes of a command line or a file in another encoding. Nothing can send them.
            if broken := re.search("[\ud800-\udfff]", text):
                what = "question" if text is self.question else "choice"
                raise InputError(
                    f"the {what} {_start(text)} is not UTF-8 text, from character {broken.start() + 1} on",
                    hint="write it in UTF-8 (iconv -f latin1 -t utf-8)",
                )

    @property
    def letters(self) -> tuple[str, ...]:
        return tuple(chr(ord("A") + index) for index in range(len(self.choices)))


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one or more calls. `cached_tokens` is the part of `prompt_tokens` that was not computed again."""

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
    """What one or more calls let out of this process: bytes of the requests' bodies, pictures and their pixels.

    A model in this process is sent nothing: its `bytes` are 0, while its pictures and pixels are still counted.
    """

    bytes: int = 0
    images: int = 0
    pixels: int = 0

    def __add__(self, other: Sent) -> Sent:
        return Sent(self.bytes + other.bytes, self.images + other.images, self.pixels + other.pixels)


@dataclass(frozen=True, slots=True)
class Confidence:
    """How sure a client is of its answer, from 0 to 1, and how that is known.

    `logprobs`: the mean probability of the answer's tokens; `stated`: what the model says; `unknown`: neither.
    """

    value: float | None = None
    source: Literal["logprobs", "stated", "unknown"] = "unknown"


@dataclass(frozen=True, slots=True)
class ClientReply:
    """What a client answered.

    `text` is the reply as it was written. `answer` is what was read from it: with choices, the text of the choice and
    `choice` its letter. Where nothing could be read, `answer` is empty and `text` still tells.
    """

    client: str
    text: str
    answer: str
    choice: str | None = None
    caption: str = ""
    confidence: Confidence = Confidence()

    @property
    def readable(self) -> bool:
        return bool(self.answer)


@dataclass(frozen=True, slots=True)
class Draft(ClientReply):
    """A client's own answer before it has heard of any other. `sample` counts from 1 where one client drafts several
    times, and is 0 elsewhere."""

    sample: int = 0


@dataclass(frozen=True, slots=True)
class Refinement(ClientReply):
    """A client's answer after guidance (or after its peers' drafts). `changed` compares it with its previous one."""

    round: int = 1
    changed: bool = False


@dataclass(frozen=True, slots=True)
class Guidance:
    """What the server wrote for the clients. The three parts are empty where the reply did not label them."""

    server: str
    text: str
    round: int = 1
    evidence: str = ""
    disagreement: str = ""
    check: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """An answer of the server itself, for the strategies in which it gives one."""

    server: str
    text: str
    answer: str
    choice: str | None = None
    caption: str = ""
    confidence: Confidence = Confidence()


@dataclass(frozen=True, slots=True)
class Failure:
    """A call that gave nothing. `kind` is one of the error tree's, `message` and `hint` are fit to be shown.

    `member` is None where the question as a whole failed, as with a picture that cannot be opened.
    """

    member: str | None
    stage: Stage
    kind: str
    message: str
    hint: str = ""
    round: int = 0


@dataclass(frozen=True, slots=True)
class Selection:
    """Who takes part and why. `dropped` are names that the selector made up."""

    clients: tuple[str, ...]
    method: Literal["all", "server", "specialty", "asked"] = "all"
    dropped: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether the server is asked in this round, and why; a gate decides it.

    `shadow`: the gate would have skipped the server, and it was asked all the same, so that the drafts beside the
    refinements tell what skipping would have cost.
    """

    asked: bool
    reason: str
    round: int = 0
    shadow: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """The account of one model call. `started` is in seconds since the question was begun. `reused`: it was read from
    a journal and cost nothing this time."""

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


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What a trace keeps of a picture: enough to tell it from any other, not the picture.

    `digest` is of its pixels. `file_digest` is the SHA-256 of the file that it was decoded from, where there was one.
    """

    digest: str
    width: int
    height: int
    source: str = ""
    note: str = ""
    file_digest: str = ""


@dataclass(frozen=True, slots=True)
class MemberInfo:
    name: str
    role: Literal["client", "server"]
    backend: str
    model: str
    specialty: str = ""


@dataclass(frozen=True, slots=True)
class Settlement:
    """How the answer came about: the asker's own, a vote, or the server's word. `votes` maps an answer to the clients
    behind it."""

    answer: str
    choice: str | None = None
    method: Literal["asker", "vote", "server"] = "asker"
    by: tuple[str, ...] = ()
    votes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trace:
    """Everything that happened to one question."""

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
    settlement: Settlement | None = None
    fallback: str = ""
    calls: tuple[Call, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    metadata: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    @property
    def answer(self) -> str:
        """The settled answer, empty if there is none. With choices it is the choice's text; `choice` has its letter."""
        return self.settlement.answer if self.settlement else ""

    @property
    def choice(self) -> str | None:
        return self.settlement.choice if self.settlement else None

    @property
    def degraded(self) -> bool:
        """Whether something was missing: a call failed or a fallback took over."""
        return bool(self.failures or self.fallback)

    @property
    def usage(self) -> Usage:
        return sum((call.usage for call in self.calls), Usage())

    @property
    def sent(self) -> Sent:
        """What left with the calls that were answered; of a call that failed nobody tells how much had left."""
        return sum((call.sent for call in self.calls), Sent())

    @property
    def final(self) -> Mapping[str, ClientReply]:
        """Each client's latest answer: its last refinement that could be read, else its draft."""
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
        """Reads what earlier versions wrote as well. Raises `InputError` for a record that is not a trace, or one of a
        newer schema."""
        version = data.get("schema_version")
        if version not in range(1, SCHEMA_VERSION + 1):
            raise InputError(
                f"trace of schema {version!r}, expected 1 to {SCHEMA_VERSION}",
                hint="read it with the version that wrote it",
            )
        if version == 1:
            data = _from_schema_1(data)
        derived = {"answer", "choice", "degraded"}
        try:
            return _trace_adapter().validate_python({k: v for k, v in data.items() if k not in derived})
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(step) for step in first["loc"])
            raise InputError(f"not a trace: {where}: {first['msg']}") from None

    def with_metadata(self, metadata: Mapping[str, Any]) -> Trace:
        return replace(self, metadata=dict(metadata))


def _from_schema_1(data: Mapping[str, Any]) -> dict[str, Any]:
    """There a verdict was a call of the stage `guide`, a failure of the question named the member "", and images
    were called pictures."""
    answers = str(data.get("strategy", "")) in ("server", "verdict", "moa")

    def renamed(row: Any) -> Any:
        if not isinstance(row, Mapping):
            return row  # told by the validation that follows
        stage = "verdict" if answers and row.get("stage") == "guide" else row.get("stage")
        member = row.get("member") or None
        sent = {"sent": images_for_pictures(row["sent"])} if isinstance(row.get("sent"), Mapping) else {}
        return {**row, "stage": stage, "member": member, **sent}

    def images_for_pictures(row: Mapping[str, Any]) -> dict[str, Any]:
        return {("images" if name == "pictures" else name): value for name, value in row.items()}

    changed = {
        name: [renamed(row) for row in data[name]] for name in ("calls", "failures") if isinstance(data.get(name), list)
    }
    return {**images_for_pictures(data), **changed, "schema_version": SCHEMA_VERSION}


def _start(text: str) -> str:
    return ascii(text if len(text) <= 40 else f"{text[:40]}...")


@cache
def _trace_adapter() -> TypeAdapter[Trace]:
    return TypeAdapter(Trace)


# What `CoLM.stream` yields, in the order in which it happens; a `Trace` comes last.


@dataclass(frozen=True, slots=True)
class StageStarted:
    stage: Stage
    members: tuple[str, ...]
    round: int = 0


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a reply as it is written. `sample` as in `Draft`."""

    stage: Stage
    member: str
    text: str
    round: int = 0
    sample: int = 0


@dataclass(frozen=True, slots=True)
class Note:
    """Something the user should know: a fallback, a dropped name, an animation's first frame."""

    text: str


Event = (
    StageStarted
    | Delta
    | Selection
    | Draft
    | Guidance
    | Refinement
    | Verdict
    | Decision
    | Call
    | Failure
    | Settlement
    | Note
    | Trace
)
