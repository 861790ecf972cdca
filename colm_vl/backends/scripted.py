"""A backend that answers from a script, for tests, examples and dry runs.

    [[clients]]
    name = "harbour"
    backend = "scripted"
    model = "harbour"
    replies = [
        { when = ["Which colour", "Look again"], text = "Answer: red" },
        { when = "Which colour", text = "Answer: blue", delay = 0.2 },
        { when = "How many", error = "rate_limited", times = 1 },
        "Answer: I do not know",
    ]

The reply is the first entry whose `when` occurs in the text of the conversation, including the system message and
earlier turns. If `when` is a list, all of its texts must occur. If no entry matches, the entries without `when` are
used in order, one per call; the last one is repeated.

Tokens are words: `Usage` counts them, and `max_tokens` and `context` limit them.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from colm_vl.backends import base
from colm_vl.backends._common import check_pictures, images_sent
from colm_vl.backends.base import Capabilities, Generation, Request, TokenLogprob
from colm_vl.errors import (
    BACKEND_ERRORS,
    BackendError,
    BadReply,
    ColmError,
    ContextTooLong,
    InputError,
    RateLimited,
    TimedOut,
)
from colm_vl.types import Usage


class Reply(BaseModel):
    """One entry of a script: a reply, or an error whose message is `text`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str = Field(default="", description="the reply, or the message of the error")
    when: str | tuple[str, ...] = Field(
        default=(), description="texts that the conversation must contain, case-sensitive"
    )
    times: int | None = Field(default=None, ge=1, description="how many times this entry is used")
    delay: float = Field(default=0.0, ge=0, description="seconds before the reply or the error")
    error: str | None = Field(default=None, description="the kind of error to raise, such as timed_out")
    retry_after: float | None = Field(default=None, ge=0, description="seconds, for the error rate_limited")
    finish_reason: Literal["stop", "length"] = Field(default="stop", description="length: the reply is cut off")
    prompt_tokens: int | None = Field(
        default=None, ge=0, description="reported tokens of the prompt; its words if not set"
    )
    cached_tokens: int = Field(default=0, ge=0, description="reported tokens of the prompt that were cached")
    completion_tokens: int | None = Field(
        default=None, ge=0, description="reported tokens of the reply; its words if not set"
    )
    probability: float | None = Field(default=None, gt=0, le=1, description="probability of each word")

    @field_validator("error")
    @classmethod
    def _known_error(cls, kind: str | None) -> str | None:
        if kind is not None and kind not in _errors_by_kind():
            raise ValueError(f"unknown error {kind!r}, expected one of: {', '.join(sorted(_errors_by_kind()))}")
        return kind

    @model_validator(mode="after")
    def _says_something(self) -> Reply:
        if not self.model_fields_set & {"text", "error"}:
            raise ValueError("an entry needs a text or an error")
        return self

    @property
    def needles(self) -> tuple[str, ...]:
        return (self.when,) if isinstance(self.when, str) else self.when


class Options(base.Options):
    """`model` is only a label. `context` is in words."""

    replies: tuple[str | Reply, ...] = Field(
        min_length=1, description="texts, or tables with the conditions under which a text is the reply"
    )
    probability: float | None = Field(
        default=None, gt=0, le=1, description="default probability of each word; no log-probabilities if not set"
    )


def connect(options: Options) -> ScriptedBackend:
    return ScriptedBackend(options.replies, options, keeps_requests=False)


class ScriptedBackend:
    """Answers from `script`: entries as in the team file, or a function from the request to the reply.

    `requests` are the requests received so far, in order, with their pictures, unless it does not keep them. `closed`
    is True after `aclose`.
    """

    def __init__(
        self,
        script: Iterable[str | Reply] | Callable[[Request], str | Reply],
        options: Options | None = None,
        *,
        keeps_requests: bool = True,
    ):
        self.requests: list[Request] = []
        self._keeps_requests = keeps_requests
        self.closed = False
        self._options = options or Options(model="scripted", replies=("-",))
        self._reply_to = script if callable(script) else _Script(tuple(map(_as_reply, script))).reply_to

    async def generate(self, request: Request) -> Generation:
        if self._keeps_requests:
            self.requests.append(request)
        check_pictures(request, self._options.max_images, self._options.model)
        prompt_tokens = sum(len(_words(message.text)) for message in request.messages)
        self._check_context(prompt_tokens)
        reply = _as_reply(self._reply_to(request))
        try:
            async with asyncio.timeout(request.timeout):
                await asyncio.sleep(reply.delay)
        except TimeoutError:
            label = self._options.model
            raise TimedOut(f"model {label!r} did not answer within {request.timeout:g} s") from None
        if reply.error is not None:
            raise _error(reply, self._options.model)
        return self._generation(request, reply, prompt_tokens)

    async def stream(self, request: Request) -> AsyncIterator[str | Generation]:
        generation = await self.generate(request)
        for word in _words(generation.text):
            yield word
            await asyncio.sleep(0)  # yield to the event loop, as other backends do
        yield generation

    async def capabilities(self) -> Capabilities:
        options = self._options
        return Capabilities(options.max_images, options.probability is not None, options.context, "scripted")

    async def aclose(self) -> None:
        self.closed = True

    def _check_context(self, prompt_tokens: int) -> None:
        context = self._options.context
        if context is not None and prompt_tokens > context:
            raise ContextTooLong(
                f"model {self._options.model!r} takes {context} tokens, got {prompt_tokens}",
                hint="shorten the question, or use a model with a longer context",
            )

    def _generation(self, request: Request, reply: Reply, prompt_tokens: int) -> Generation:
        words = _words(reply.text)
        limit = request.sampling.max_tokens
        cut = len(words) > limit
        words = words[:limit]
        probability = reply.probability or self._options.probability
        return Generation(
            text="".join(words),
            finish_reason="length" if cut else reply.finish_reason,
            usage=Usage(
                prompt_tokens if reply.prompt_tokens is None else reply.prompt_tokens,
                reply.cached_tokens,
                len(words) if reply.completion_tokens is None else reply.completion_tokens,
            ),
            sent=images_sent(request.images, self._options.max_pixels),
            logprobs=tuple(TokenLogprob(word, math.log(probability)) for word in words) if probability else None,
            seconds=reply.delay,
        )


@dataclass(frozen=True, slots=True)
class _Slot:
    """An entry with its index: equal entries are counted separately."""

    index: int
    reply: Reply


class _Script:
    def __init__(self, replies: tuple[Reply, ...]) -> None:
        slots = tuple(_Slot(index, reply) for index, reply in enumerate(replies))
        self._conditional = tuple(slot for slot in slots if slot.reply.needles)
        self._ordered = _in_order(slot.reply for slot in slots if not slot.reply.needles)
        self._used: Counter[int] = Counter()

    def reply_to(self, request: Request) -> Reply:
        text = "\n".join(message.text for message in request.messages)
        for slot in self._conditional:
            spent = slot.reply.times is not None and self._used[slot.index] >= slot.reply.times
            if not spent and all(needle in text for needle in slot.reply.needles):
                self._used[slot.index] += 1
                return slot.reply
        reply = next(self._ordered, None)
        if reply is None:
            raise BadReply("the script has no reply to this request", hint="add an entry without `when`")
        return reply


def _in_order(replies: Iterable[Reply]) -> Iterator[Reply]:
    reply = None
    for reply in replies:
        for _ in range(reply.times or 1):
            yield reply
    while reply is not None:
        yield reply


def _as_reply(entry: str | Reply) -> Reply:
    return Reply(text=entry) if isinstance(entry, str) else entry


def _words(text: str) -> list[str]:
    """The words with their surrounding white space; joined, they give the text."""
    return re.findall(r"\s*\S+(?:\s+$)?|\s+$", text)


def _errors_by_kind() -> Mapping[str, type[ColmError]]:
    return {**BACKEND_ERRORS, InputError.kind: InputError}


def _error(reply: Reply, model: str) -> ColmError:
    kind = _errors_by_kind()[reply.error or BackendError.kind]
    message = reply.text or f"model {model!r}: {kind.kind} by its script"
    if issubclass(kind, RateLimited):
        return kind(message, retry_after=reply.retry_after)
    return kind(message)
