"""The protocol of the guidance service: what a client's team sends and what it gets back.

Requests are `POST /v1/selection`, `/v1/guidance` and `/v1/verdict`, with a body of the class of that name. The reply is
an object of the class that its `Reply` names or, with `stream`, server-sent events whose data are the classes at the
end of this module. Pictures are named by the SHA-256 of their files, and uploaded beforehand with
`PUT /v1/pictures/{sha256}`.

Within a client's team, a request is a conversation of two messages (`as_messages`), so that call stores and accounts
treat calls of a service like those of a model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from colm_vl.backends.base import Message
from colm_vl.types import MAX_CHOICES, Confidence, EarlierTurn, Flaw, Usage
from processors.images import Image

MOST_CHARACTERS = 200_000
"""Of one text in a request."""
MOST_DRAFTS = 64
MOST_PICTURES = 32
MOST_TURNS = 1000
MISSING_PICTURE = "missing_picture"
"""The code of the error, of status 409, if the service does not have a picture of the request (any more)."""
PICTURE_TYPES = ("image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp")

Text = Annotated[str, StringConstraints(max_length=MOST_CHARACTERS)]
Name = Annotated[str, StringConstraints(max_length=1000)]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True, slots=True)
class ShownDrafts:
    """The clients' replies as a guide sees them.

    `texts` are their texts by heading. `answers` are the different answers that they give. `images_hidden`: the
    question has pictures that the guide may not see.
    """

    texts: Mapping[str, str]
    answers: Sequence[str] = ()
    images_hidden: bool = False


# --- replies ---


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class SelectionReading(_Value):
    """The clients that take part."""

    text: str = Field(default="", description="the reply as the model wrote it")
    clients: tuple[str, ...] = Field(default=(), description="names of clients in the request, best first")
    dropped: tuple[str, ...] = Field(default=(), description="names in the reply that no client has")


class GuidanceReading(_Value):
    """Guidance. Its parts are empty if the reply does not label them."""

    text: str = Field(default="", description="the reply as the model wrote it")
    evidence: str = ""
    disagreement: str = ""
    check: str = ""
    own: str = Field(default="", description="the reply without what it repeated; empty if nothing is left")
    flaws: tuple[Flaw, ...] = Field(default=(), description="what was cut out of the reply")


class VerdictReading(_Value):
    """The server's own answer. With choices, `answer` is the text of the choice and `choice` its letter."""

    text: str = Field(default="", description="the reply as the model wrote it")
    answer: str = Field(default="", description="empty if none could be read")
    choice: str | None = None
    caption: str = ""
    confidence: Confidence = Confidence()
    flaws: tuple[Flaw, ...] = Field(default=(), description="what was cut out of the reply")


class _Spent(_Value):
    usage: Usage = Field(default=Usage(), description="tokens of the server's model")
    notes: tuple[str, ...] = Field(default=(), description="remarks, such as that the reply was cut off")


class SelectionReply(SelectionReading, _Spent):
    pass


class GuidanceReply(GuidanceReading, _Spent):
    pass


class VerdictReply(VerdictReading, _Spent):
    pass


Reply = SelectionReply | GuidanceReply | VerdictReply


# --- requests ---


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    question: Annotated[Text, StringConstraints(min_length=1)]
    choices: Annotated[tuple[Text, ...], Field(max_length=MAX_CHOICES)] = Field(
        default=(), description="none, or 2 to 26"
    )
    pictures: Annotated[tuple[Digest, ...], Field(max_length=MOST_PICTURES)] = Field(
        default=(), description="the SHA-256 of each picture's file, in hexadecimal; see /v1/pictures"
    )
    history: Annotated[tuple[EarlierTurn, ...], Field(max_length=MOST_TURNS)] = Field(
        default=(), description="the earlier turns of the conversation; their pictures come first in `pictures`"
    )
    stream: bool = Field(default=False, description="whether to reply with server-sent events")

    @field_validator("history")
    @classmethod
    def _counts_pictures(cls, turns: tuple[EarlierTurn, ...]) -> tuple[EarlierTurn, ...]:
        counts = [turn.images for turn in turns]
        if min(counts, default=0) < 0 or sum(counts) > MOST_PICTURES:
            raise ValueError(f"expected turns with 0 to {MOST_PICTURES} pictures together")
        return turns


class DraftText(_Value):
    model_config = ConfigDict(frozen=True, extra="forbid")

    heading: Name = Field(description="whose draft it is, for instance a name and a specialty")
    text: Text


class _WithDrafts(_Request):
    drafts: Annotated[tuple[DraftText, ...], Field(max_length=MOST_DRAFTS)] = ()
    answers: Annotated[tuple[Text, ...], Field(max_length=MOST_DRAFTS)] = Field(
        default=(), description="the different answers that the drafts give"
    )
    pictures_hidden: bool = Field(
        default=False, description="the question has pictures, but the server is not to see them"
    )

    @property
    def shown(self) -> ShownDrafts:
        texts = {draft.heading: draft.text for draft in self.drafts}
        return ShownDrafts(texts, self.answers, self.pictures_hidden)


class ClientInfo(_Value):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    specialty: Name = ""


class SelectionRequest(_Request):
    """Which clients take part in answering the question?"""

    task: ClassVar = "selection"
    Reply: ClassVar = SelectionReply

    clients: Annotated[tuple[ClientInfo, ...], Field(min_length=1, max_length=MOST_DRAFTS)]
    count: Annotated[int, Field(ge=1, le=MOST_DRAFTS, description="how many clients to select at most")]


class GuidanceRequest(_WithDrafts):
    """Guidance for clients that have drafted an answer."""

    task: ClassVar = "guidance"
    Reply: ClassVar = GuidanceReply

    drafts: Annotated[tuple[DraftText, ...], Field(min_length=1, max_length=MOST_DRAFTS)]


class VerdictRequest(_WithDrafts):
    """The server's own answer, from the drafts or, if there are none, on its own."""

    task: ClassVar = "verdict"
    Reply: ClassVar = VerdictReply


Task = SelectionRequest | GuidanceRequest | VerdictRequest
TASKS: Mapping[str, type[Task]] = {kind.task: kind for kind in (SelectionRequest, GuidanceRequest, VerdictRequest)}


def described(shown: ShownDrafts) -> dict[str, Any]:
    """The fields of a request that hold the drafts."""
    drafts = [DraftText(heading=heading, text=text) for heading, text in shown.texts.items()]
    return {"drafts": drafts, "answers": tuple(shown.answers), "pictures_hidden": shown.images_hidden}


def as_messages(task: Task, images: Sequence[Image]) -> tuple[Message, ...]:
    """A request as a conversation: the task's name, then the pictures and the other fields as JSON."""
    fields = task.model_dump(mode="json", exclude={"pictures", "stream"}, exclude_defaults=True)
    return Message("system", (task.task,)), Message("user", (*images, json.dumps(fields, ensure_ascii=False)))


def of_messages(messages: Sequence[Message]) -> Task:
    """The request of such a conversation, without its pictures. Raises `ValueError` if it is none."""
    if len(messages) != 2 or messages[0].text not in TASKS:
        raise ValueError("not a request to a guidance service")
    return TASKS[messages[0].text].model_validate_json(messages[1].text)


# --- events of a stream ---


class Queued(_Value):
    """The call waits. It is sent when the number changes."""

    type: Literal["queued"] = "queued"
    ahead: int = Field(description="calls that will be served before this one, as estimated now")


class Started(_Value):
    """The call waits no longer."""

    type: Literal["started"] = "started"


class TextDelta(_Value):
    """A piece of the reply as it is written."""

    type: Literal["delta"] = "delta"
    text: str


class ReplyDone(_Value):
    """The whole reply; the last event."""

    type: Literal["reply"] = "reply"
    reply: dict[str, Any] = Field(description="as without `stream`")


class StreamError(_Value):
    message: str
    type: str = Field(description="kind of the error, such as timed_out")
    hint: str = ""
    retry_after: float | None = Field(default=None, description="seconds")


class StreamFailed(_Value):
    """The request failed after the stream had begun; the last event."""

    type: Literal["error"] = "error"
    error: StreamError


StreamEvent = Annotated[Queued | Started | TextDelta | ReplyDone | StreamFailed, Field(discriminator="type")]
