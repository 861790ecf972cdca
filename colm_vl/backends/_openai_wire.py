"""The chat-completions protocol: from messages to the body of a request, and from a reply to what it says."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

from colm_vl.backends._openai_errors import Place, message_of
from colm_vl.backends.base import Message, Part, Sampling, TokenLogprob
from colm_vl.errors import BadReply
from colm_vl.types import Usage

# Parameters that an endpoint may refuse and that a request can do without, or have under another name.
DISPENSABLE = ("logprobs", "stream_options", "max_tokens", "temperature", "top_p", "seed")

# Half a pair of \\u escapes: JSON can say it, no encoding can write it.
_SURROGATE = re.compile("[\ud800-\udfff]")
# A reply of more characters, besides those of the tokens that were asked for, is none: some streams never end.
_SPARE_CHARS = 100_000
_CHARS_A_TOKEN = 16


def messages_json(
    messages: Iterable[Message], *, max_pixels: int | None, detail: str | None
) -> list[dict[str, object]]:
    """The conversation as the protocol has it. Equal messages give equal JSON, so that prefixes stay prefixes.

    A turn without pictures is one string: servers of text-only models often take nothing else.
    """
    return [
        {"role": message.role, "content": _content(message, max_pixels=max_pixels, detail=detail)}
        for message in messages
    ]


def _content(message: Message, *, max_pixels: int | None, detail: str | None) -> object:
    if not message.images:
        return message.text
    return [_part_json(part, max_pixels=max_pixels, detail=detail) for part in message.parts]


def _part_json(part: Part, *, max_pixels: int | None, detail: str | None) -> dict[str, object]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    picture = {"url": part.data_uri(max_pixels)}
    return {"type": "image_url", "image_url": picture | ({"detail": detail} if detail else {})}


def parameters(sampling: Sampling, *, stream: bool, refused: Collection[str]) -> dict[str, object]:
    """Everything in the body but model, messages and stream. `refused` are those of DISPENSABLE to do without."""
    wanted: dict[str, object] = {
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "logprobs": True,
    }
    if sampling.top_p < 1:
        wanted["top_p"] = sampling.top_p
    if sampling.seed is not None:
        wanted["seed"] = sampling.seed
    if stream:
        wanted["stream_options"] = {"include_usage": True}
    kept = {name: value for name, value in wanted.items() if name not in refused}
    return kept if "max_tokens" in kept else kept | {"max_completion_tokens": sampling.max_tokens}


class ReplyReader:
    """Reads a reply, whole or piece by piece. Raises BadReply for what is none."""

    def __init__(self, place: Place, max_tokens: int) -> None:
        self.finish_reason: Literal["stop", "length"] | None = None
        self.usage = Usage()
        self._place = place
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
            said = self._place.scrub(message_of(data))
            raise self._bad(f"is an error: {said or 'it does not say which'}")
        self.usage = _usage(data.get("usage")) or self.usage
        choice = _first(data.get("choices"))
        if choice is None:  # as in the last event of a stream, which has only the usage
            return ""
        if reason := choice.get("finish_reason"):
            self.finish_reason = self._finish_reason(reason)
        self._logprobs += _logprobs(choice.get("logprobs"))
        turn = _mapping(choice.get("message")) or _mapping(choice.get("delta"))
        if turn.get("refusal"):
            raise self._bad("was refused by the model", retryable=False)
        piece = _text(turn.get("content"))
        self._room -= len(piece)
        if self._room < 0:
            raise self._bad("does not end where it should", hint="check that it heeds max_tokens", retryable=False)
        self._pieces.append(piece)
        return piece

    def check_complete(self, *, streamed: bool) -> None:
        """Only a stream needs a reason to have ended: a body that is cut off is no JSON."""
        if streamed and self.finish_reason is None:
            raise self._bad("ended before it was finished")
        if not self.text.strip():
            cut = self.finish_reason == "length"
            raise self._bad("has no text", hint="raise max_tokens: they ran out before the text began" if cut else "")

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


def _first(choices: object) -> Mapping[str, Any] | None:
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], Mapping) else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(content: object) -> str:
    """Most send a string; some a list of parts."""
    if isinstance(content, str):
        return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", content)
    if isinstance(content, list):
        return "".join(_text(_mapping(part).get("text")) for part in content)
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
    return value if isinstance(value, int) and value > 0 else 0


def _logprobs(logprobs: object) -> list[TokenLogprob]:
    content = _mapping(logprobs).get("content")
    found = []
    for entry in content if isinstance(content, list) else []:
        token, logprob = _mapping(entry).get("token"), _mapping(entry).get("logprob")
        # Above 0 it is none, but for rounding.
        if isinstance(token, str) and isinstance(logprob, int | float) and -1e6 < logprob < 0.01:
            found.append(TokenLogprob(_text(token), min(0.0, float(logprob))))
    return found
