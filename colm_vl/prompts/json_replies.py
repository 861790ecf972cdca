"""The reply format of JSON objects: how it is requested, and how replies are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from colm_vl.prompts import json_fields
from colm_vl.prompts.profile import Profile
from colm_vl.prompts.replies import (
    Example,
    GuidanceExample,
    LabelledLines,
    ParsedGuidance,
    ParsedReply,
    ReplyFormat,
    example_of,
    reasoned,
    without_thinking,
)
from colm_vl.types import Query


@dataclass(frozen=True, slots=True)
class JsonObject:
    """An object under a schema, such as `{"caption": "…", "answer": "5", "confidence": 90}`.

    If the profile has no texts for it, the prompt asks for lines, and only the decoding is constrained.
    """

    profile: Profile
    reason: bool = False

    @property
    def _lines(self) -> LabelledLines:
        return LabelledLines(self.profile, self.reason)

    def ask_answer(self, query: Query) -> str:
        texts = self.profile.texts
        own = texts.json_choice if query.choices else texts.json_open
        return reasoned(self, own, texts.json_reason or texts.reason_task) if own else self._lines.ask_answer(query)

    def example(self, query: Query) -> Example | None:
        """The profile's example. Its reply is an object if the prompt asks for objects."""
        texts, lines = self.profile.texts, example_of(self, query)
        if lines is None or not (texts.json_choice if query.choices else texts.json_open):
            return lines
        return Example(lines.question, json_fields.from_lines(lines.reply))

    def ask_guidance(self) -> str:
        return self.profile.texts.json_task or self._lines.ask_guidance()

    def guidance_example(self) -> GuidanceExample | None:
        example = self._lines.guidance_example()
        if example is None or not self.profile.texts.json_task:
            return example
        return example._replace(reply=json_fields.from_lines(example.reply))

    def answer_schema(self, query: Query) -> Mapping[str, Any] | None:
        return json_fields.answer_schema(query.letters, reason=self.reason)

    def guidance_schema(self) -> Mapping[str, Any] | None:
        return json_fields.guidance_schema()

    def read_answer(self, text: str, choices: Sequence[str] = ()) -> ParsedReply:
        """Fields are read in the same way as lines with the same labels."""
        read = self._lines.read_answer(said_to_others(text), choices)
        return replace(read, answer_span=json_fields.find_answer(text) if read.answer else None)

    def read_guidance(self, text: str) -> ParsedGuidance:
        return self._lines.read_guidance(said_to_others(text))


def written_in(text: str, asked: ReplyFormat) -> ReplyFormat:
    """The actual format of a reply. Small models ignore a schema, and large ones write JSON without being asked."""
    is_json = bool(json_fields.read_fields(without_thinking(text)))
    return JsonObject(asked.profile) if is_json else LabelledLines(asked.profile)


def shown(text: str) -> str:
    """A reply for people: JSON objects are converted to lines, other replies are not changed."""
    fields = json_fields.read_fields(without_thinking(text))
    return json_fields.as_lines(fields) if fields else text


def said_to_others(text: str) -> str:
    """A reply for other models: like `shown`, but without thinking."""
    return shown(without_thinking(text))
