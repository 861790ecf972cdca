"""Parses replies with chat completions, and chunks of streams."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from colm_vl.backends._common import letter_in, summed
from colm_vl.backends._http_errors import Target, message_of, too_large
from colm_vl.backends.base import TokenLogprob
from colm_vl.errors import BadReply
from colm_vl.types import Timing, Usage

# Lone surrogates: JSON can contain them as \u escapes, but they cannot be encoded.
_SURROGATE = re.compile("[\ud800-\udfff]")
# The maximum length of a reply, besides 16 characters per requested token. Some streams never end.
_SPARE_CHARS = 100_000
_CHARS_A_TOKEN = 16
# Limits for JSON, in which each token has its log-probability and those of up to 20 others and, in a stream, its own
# chunk. Parsing such JSON takes tens of milliseconds. A thread would not help: the parser holds the interpreter lock.
_SPARE_BYTES = 4 << 20
_BYTES_A_TOKEN = 3072
_STREAMED_BYTES_A_TOKEN = 6144
_LARGEST_COUNT = 1 << 53
_LONGEST_MS = 1e9


def most_bytes(max_tokens: int, *, stream: bool) -> int:
    """The maximum number of bytes of a reply with `max_tokens` tokens."""
    return _SPARE_BYTES + max_tokens * (_STREAMED_BYTES_A_TOKEN if stream else _BYTES_A_TOKEN)


def parse_completion(body: bytes, target: Target) -> object:
    """Parse the JSON of a whole reply. Raises `BadReply` if it is not JSON."""
    text = body.decode("utf-8-sig", "replace")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    what = "a page of HTML" if text.lstrip().startswith("<") else "no JSON, or JSON that is cut off"
    raise BadReply(f"the reply of {target.label} is {what}", hint="check base_url, which usually ends in /v1")


def parse_chunk(data: bytes, target: Target) -> object:
    """Parse the JSON of one event of a stream. Raises `BadReply` if it is not JSON."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        pass
    raise BadReply(f"the stream of {target.label} is garbled")


@dataclass(frozen=True, slots=True)
class ModelList:
    """The result of /models: the models' names, and the context of one model in tokens, if it is given."""

    names: tuple[str, ...]
    context: int | None

    @classmethod
    def of(cls, body: object, model: str) -> ModelList:
        data = _mapping(body).get("data")
        entries = [entry for entry in data if isinstance(entry, dict)] if isinstance(data, list) else []
        sizes = (
            _count(entry.get(name))
            for entry in entries
            if entry.get("id") == model
            for name in ("max_model_len", "context_length", "context_window")
        )
        names = tuple(str(entry["id"]) for entry in entries if entry.get("id"))
        return cls(names, next((size for size in sizes if size), None))


class ReplyReader:
    """Reads a reply, as a whole or in chunks. Raises `BadReply` if it is not a reply. `begun`: there is text or
    reasoning in what was read so far. `computed` are the times that the engine reports, or None."""

    def __init__(self, target: Target, max_tokens: int, *, streamed: bool, letters: Collection[str] = ()) -> None:
        self.finish_reason: Literal["stop", "length"] | None = None
        self.usage = Usage()
        self.begun = False
        self.computed: Timing | None = None
        self._target = target
        self._streamed = streamed
        self._letters = letters
        self._one_token = max_tokens == 1
        self._index: object = None  # of the choice that is read; choices with other indexes are different replies
        self._room = _SPARE_CHARS + _CHARS_A_TOKEN * max_tokens
        self._pieces: list[str] = []
        self._logprobs: list[TokenLogprob] = []

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    @property
    def logprobs(self) -> tuple[TokenLogprob, ...] | None:
        return tuple(self._logprobs) or None

    def add(self, data: object) -> str:
        """Add a completion or one chunk of a stream, and return its text."""
        if not isinstance(data, Mapping):
            raise self._bad("is JSON, but not a completion")
        if data.get("error") or data.get("object") == "error":
            said = self._target.scrub(message_of(data)) or "without a message"
            raise self._bad(f"broke off with an error: {said}" if self._streamed else f"is an error: {said}")
        self.usage = _usage(data.get("usage")) or self.usage
        if timings := data.get("timings"):
            self.computed = _computed(_mapping(timings)) or self.computed
        choice = self._choice(data.get("choices"))
        if choice is None:  # for instance, the last event of a stream has only the usage
            return ""
        if reason := choice.get("finish_reason"):
            self.finish_reason = self._finish_reason(reason)
        self._logprobs += _logprobs(choice.get("logprobs"), self._letters)
        turn = _mapping(choice.get("message")) or _mapping(choice.get("delta"))
        if turn.get("refusal"):
            raise self._bad("was refused by the model", retryable=False)
        piece = _text(turn.get("content"))
        self.begun = self.begun or bool(piece or turn.get("reasoning_content") or turn.get("reasoning"))
        self._room -= len(piece)
        if self._room < 0:
            raise too_large(self._target)
        self._pieces.append(piece)
        return piece

    def check_complete(self) -> None:
        """Only streams must have a finish reason; a truncated body would not be valid JSON. A single token can be white
        space, or the beginning of a thought that the endpoint leaves out."""
        if self._streamed and self.finish_reason is None:
            raise self._bad("ended before it was finished")
        if not self.text.strip() and not (self._one_token and self.finish_reason):
            cut = self.finish_reason == "length"
            raise self._bad(
                "has no text", hint="raise max_tokens: the limit was reached before any text" if cut else ""
            )

    def _choice(self, choices: object) -> Mapping[str, Any] | None:
        """The first choice, and in later chunks the one with the same index."""
        for choice in choices if isinstance(choices, list) else []:
            if isinstance(choice, Mapping):
                index = choice.get("index") or 0
                if self._index is None:
                    self._index = index
                if index == self._index:
                    return choice
        return None

    def _finish_reason(self, reason: object) -> Literal["stop", "length"]:
        if reason == "content_filter":
            raise self._bad("was withheld by a content filter", retryable=False)
        if reason == "error":
            raise self._bad("ended in an error of the endpoint")
        return "length" if reason == "length" else "stop"

    def _bad(self, what: str, *, hint: str = "", retryable: bool = True) -> BadReply:
        error = BadReply(f"the reply of {self._target.label} {what}", hint=hint)
        error.retryable = retryable
        return error


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(content: object) -> str:
    """Most endpoints send a string, some a list of parts."""
    if isinstance(content, str):
        return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", content)
    if isinstance(content, list):
        texts = (_mapping(part).get("text") for part in content)
        return "".join(_text(text) for text in texts if isinstance(text, str))
    return ""


def _usage(usage: object) -> Usage | None:
    if not isinstance(usage, Mapping):
        return None
    details = _mapping(usage.get("prompt_tokens_details"))
    return Usage(
        prompt_tokens=_count(usage.get("prompt_tokens")),
        cached_tokens=_count(details.get("cached_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
    )


def _computed(timings: Mapping[str, Any]) -> Timing | None:
    """What llama.cpp reports, in milliseconds. Waiting for a slot there is in neither."""
    prefill, decode = timings.get("prompt_ms"), timings.get("predicted_ms")
    if not isinstance(prefill, int | float) or not isinstance(decode, int | float):
        return None
    plausible = 0 <= prefill < _LONGEST_MS and 0 <= decode < _LONGEST_MS
    return Timing(prefill=prefill / 1000, decode=decode / 1000) if plausible else None


def _count(value: object) -> int:
    return value if isinstance(value, int) and 0 < value < _LARGEST_COUNT else 0


def _logprobs(logprobs: object, letters: Collection[str]) -> list[TokenLogprob]:
    found = []
    for entry in _entries(_mapping(logprobs).get("content")):
        for token, logprob in _token(entry):
            others = entry.get("top_logprobs") if letters and letter_in(token, letters) else None
            found.append(TokenLogprob(token, logprob, _among(letters, others, token, logprob) if others else None))
    return found


def _among(letters: Collection[str], others: object, token: str, logprob: float) -> Mapping[str, float]:
    """The letters among the likeliest tokens, and the one that was drawn if it is not among them."""
    likeliest = dict(pair for entry in _entries(others) for pair in _token(entry))
    named = ((letter_in(name, letters), each) for name, each in {token: logprob, **likeliest}.items())
    return summed((letter, each) for letter, each in named if letter)


def _entries(listed: object) -> Iterator[Mapping[str, Any]]:
    return (entry for entry in listed if isinstance(entry, Mapping)) if isinstance(listed, list) else iter(())


def _token(entry: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The entry's token and log-probability, if it has both."""
    token, logprob = entry.get("token"), entry.get("logprob")
    # Values above 0 are invalid, except for rounding errors.
    if isinstance(token, str) and isinstance(logprob, int | float) and -1e6 < logprob < 0.01:
        yield _text(token), min(0.0, float(logprob))
