"""Chat completions as they come back: from a reply, or the chunks of a stream, to what the model said."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from colm_vl.backends._common import letter_in, summed
from colm_vl.backends._openai_errors import Place, does_not_end, message_of
from colm_vl.backends.base import TokenLogprob
from colm_vl.errors import BadReply
from colm_vl.types import Usage

# Half a pair of \u escapes: JSON can say it, no encoding can write it.
_SURROGATE = re.compile("[\ud800-\udfff]")
# A reply of more characters, besides those of the tokens that were asked for, is none: some streams never end.
_SPARE_CHARS = 100_000
_CHARS_A_TOKEN = 16
# A token comes with its log-probability and those of up to 20 others, in a stream also with the frame of its chunk.
# JSON of this size is parsed in tens of milliseconds, which cannot be had off the event loop: the parser holds the
# interpreter's lock.
_SPARE_BYTES = 4 << 20
_BYTES_A_TOKEN = 3072
_STREAMED_BYTES_A_TOKEN = 6144
_LARGEST_COUNT = 1 << 53


def most_bytes(max_tokens: int, *, stream: bool) -> int:
    """How many bytes a reply of so many tokens may have."""
    return _SPARE_BYTES + max_tokens * (_STREAMED_BYTES_A_TOKEN if stream else _BYTES_A_TOKEN)


def parse_completion(body: bytes, place: Place) -> object:
    """The JSON of a whole reply. Raises BadReply if it is none."""
    text = body.decode("utf-8-sig", "replace")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    what = "a page of HTML" if text.lstrip().startswith("<") else "no JSON, or JSON that is cut off"
    raise BadReply(f"the reply of {place.label} is {what}", hint="check base_url: most end in /v1")


def parse_chunk(data: bytes, place: Place) -> object:
    """The JSON of one event of a stream. Raises BadReply if it is none."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        pass
    raise BadReply(f"the stream of {place.label} is garbled")


@dataclass(frozen=True, slots=True)
class ModelList:
    """What /models tells: the models' names, and one model's context in tokens where it is given."""

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
    """Reads a reply, whole or chunk by chunk. Raises BadReply for what is none."""

    def __init__(self, place: Place, max_tokens: int, *, streamed: bool, letters: Collection[str] = ()) -> None:
        self.finish_reason: Literal["stop", "length"] | None = None
        self.usage = Usage()
        self._place = place
        self._streamed = streamed
        self._letters = letters
        self._index: object = None  # of the choice that is read: another one's text would mix two replies
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
        """Take in a completion, or one chunk of a stream; gives the text that it brought."""
        if not isinstance(data, Mapping):
            raise self._bad("sent JSON that is no completion")
        if data.get("error") or data.get("object") == "error":
            said = self._place.scrub(message_of(data)) or "it does not say which"
            raise self._bad(f"broke off with an error: {said}" if self._streamed else f"is an error: {said}")
        self.usage = _usage(data.get("usage")) or self.usage
        choice = self._choice(data.get("choices"))
        if choice is None:  # as in the last event of a stream, which has only the usage
            return ""
        if reason := choice.get("finish_reason"):
            self.finish_reason = self._finish_reason(reason)
        self._logprobs += _logprobs(choice.get("logprobs"), self._letters)
        turn = _mapping(choice.get("message")) or _mapping(choice.get("delta"))
        if turn.get("refusal"):
            raise self._bad("was refused by the model", retryable=False)
        piece = _text(turn.get("content"))
        self._room -= len(piece)
        if self._room < 0:
            raise does_not_end(self._place)
        self._pieces.append(piece)
        return piece

    def check_complete(self) -> None:
        """Only a stream needs a reason to have ended: a body that is cut off is no JSON."""
        if self._streamed and self.finish_reason is None:
            raise self._bad("ended before it was finished")
        if not self.text.strip():
            cut = self.finish_reason == "length"
            raise self._bad("has no text", hint="raise max_tokens: they ran out before the text began" if cut else "")

    def _choice(self, choices: object) -> Mapping[str, Any] | None:
        """The choice that is read: the first that came, and in later chunks that of the same index."""
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
        error = BadReply(f"the reply of {self._place.label} {what}", hint=hint)
        error.retryable = retryable
        return error


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(content: object) -> str:
    """Most send a string; some a list of parts."""
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
    """The letters among the likeliest tokens. The one that was drawn counts also where it is not listed."""
    likeliest = dict(pair for entry in _entries(others) for pair in _token(entry))
    named = ((letter_in(name, letters), each) for name, each in {token: logprob, **likeliest}.items())
    return summed((letter, each) for letter, each in named if letter)


def _entries(listed: object) -> Iterator[Mapping[str, Any]]:
    return (entry for entry in listed if isinstance(entry, Mapping)) if isinstance(listed, list) else iter(())


def _token(entry: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The entry's token and log-probability, if it has both."""
    token, logprob = entry.get("token"), entry.get("logprob")
    # Above 0 it is none, but for rounding.
    if isinstance(token, str) and isinstance(logprob, int | float) and -1e6 < logprob < 0.01:
        yield _text(token), min(0.0, float(logprob))
