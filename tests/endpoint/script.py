"""The scripted answers of an endpoint, and the requests that it received."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from typing import Any, Literal

FaultKind = Literal[
    "status",  # any status, with `message` as the endpoint's own
    "rate_limited",  # 429, with `retry_after` as the header
    "server_error",  # 500
    "html",  # 200 with a page
    "error_body",  # 200 with an error
    "empty",  # 200 with a reply that has no text
    "no_choices",  # 200 with no reply
    "truncated",  # 200 with JSON that is cut off, the connection in order
    "half_way",  # the connection is closed in the middle of the body
    "reset",  # the connection is reset before a reply
    "stall",  # no reply until the client disconnects or the server closes
    "stall_half_way",  # the same, after the first half
    "unfinished",  # a stream that ends without a reason
    "garbled",  # an event of a stream that is no JSON
    "stream_error",  # an error as an event, after the first piece
    "too_long",  # 400, the prompt does not fit the context
    "redirect",  # 307 to `location`
]


@dataclass(frozen=True)
class Reply:
    """An answer. Words are its tokens; `probability` is each word's, None gives no log-probabilities. `likeliest` are
    the probabilities of the likeliest tokens, given in the place of each word that is one of them. `as_parts`: its
    content is a list, as some endpoints have it. `timings` are those that llama.cpp reports."""

    text: str
    finish_reason: str = "stop"
    probability: float | None = 0.5
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    as_parts: bool = False
    refusal: str | None = None
    likeliest: Mapping[str, float] = field(default_factory=dict)
    timings: Any = None


@dataclass(frozen=True)
class Fault:
    kind: FaultKind
    status: int = 200
    message: str = "it went wrong"
    retry_after: str | None = None
    location: str = ""
    text: str = "Answer: never mind"


@dataclass(frozen=True)
class Seen:
    """A request as it arrived."""

    number: int
    path: str
    headers: Message
    body: Mapping[str, Any]
    size: int

    @property
    def parts(self) -> list[Mapping[str, Any]]:
        """All parts of all messages, in order."""
        contents = [message["content"] for message in self.body["messages"]]
        return [
            part
            for content in contents
            for part in ([{"type": "text", "text": content}] if isinstance(content, str) else content)
        ]

    @property
    def text(self) -> str:
        return "\n".join(part["text"] for part in self.parts if part["type"] == "text")

    @property
    def pictures(self) -> list[str]:
        """Data URIs."""
        return [part["image_url"]["url"] for part in self.parts if part["type"] == "image_url" and part["image_url"]]


Answer = str | Reply | Fault
Script = Answer | Iterable[Answer] | Callable[[Seen], Answer]
