"""Read the fields of replies that are JSON objects, including incomplete ones."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from pydantic_core import from_json

ANSWER_FIELDS = ("caption", "reasoning", "answer", "confidence")
GUIDANCE_FIELDS = ("evidence", "disagreement", "check")
_FIELDS = frozenset(ANSWER_FIELDS + GUIDANCE_FIELDS)
_FENCE = re.compile(r"\s*(?:```\w*\s*)?")
_ANSWER = re.compile(r'"answer"\s*:\s*(?:"((?:[^"\\]|\\.)*)|([^\s,}"]+))', re.IGNORECASE | re.DOTALL)
_CONTROLS = re.compile(r"[\x00-\x1f]")


def read_fields(text: str) -> Mapping[str, str] | None:
    """The fields of a reply by name, in the order of the reply, each on one line; of an incomplete object, the fields
    that have begun. None if the text is not such an object."""
    start = text.find("{", _FENCE.match(text).end())  # type: ignore[union-attr]  # it matches nothing, too
    if start < 0 or _FENCE.fullmatch(text[:start]) is None:
        return None
    try:
        # Line breaks are not allowed in JSON strings, and have no meaning between fields.
        found = from_json(_CONTROLS.sub(" ", text[start:]), allow_partial="trailing-strings")
    except ValueError:
        return None
    if not isinstance(found, dict):
        return None
    return {
        name.strip().lower(): said
        for name, value in found.items()
        if name.strip().lower() in _FIELDS and (said := _one_line(value))
    }


def is_complete(text: str) -> bool:
    """Whether the first object in the text is complete. What follows it does not matter."""
    try:
        json.JSONDecoder().raw_decode(_CONTROLS.sub(" ", text), text.index("{"))
    except (ValueError, RecursionError):
        return False
    return True


def find_answer(text: str) -> tuple[int, int] | None:
    """The position of the value of the field `answer` in the text, without quotation marks. Quotation marks inside
    other fields are escaped, so the name of this field cannot occur there."""
    *_, found = (None, *_ANSWER.finditer(text))  # the last, because a `<think>` part may contain others
    return found.span(found.lastindex or 0) if found else None


def as_lines(fields: Mapping[str, str]) -> str:
    """The fields as labelled lines, for people and for other models."""
    return "\n".join(f"{name.capitalize()}: {said}" for name, said in fields.items())


def from_lines(text: str) -> str:
    """Labelled lines as an object."""
    fields = {name.lower(): said.strip() for name, _, said in (line.partition(":") for line in text.splitlines())}
    plain = {
        name: int(said) if said.isdecimal() else said.strip("()") if name == "answer" else said
        for name, said in fields.items()
    }
    return json.dumps(plain, ensure_ascii=False)


class StreamedFields:
    """The text to show of a reply while it is generated: labelled lines for a JSON object, other replies unchanged."""

    def __init__(self) -> None:
        self._text = ""
        self._shown = 0
        self._is_json: bool | None = None

    def push(self, piece: str) -> str:
        """Add a piece of the reply, and return the text to show for it."""
        self._text += piece
        if self._is_json is None:
            self._is_json = _begins_object(self._text)
        if self._is_json is None:
            return ""
        if not self._is_json:
            return self._rest(self._text)
        fields = read_fields(self._text)
        return self._rest(as_lines(fields)) if fields else ""

    def flush(self) -> str:
        """The remaining text to show, when the reply has ended."""
        if self._is_json and self._shown:
            return ""
        return self._rest(self._text)

    def _rest(self, text: str) -> str:
        fresh, self._shown = text[self._shown :], max(self._shown, len(text))
        return fresh


def answer_schema(letters: Sequence[str], *, reason: bool = False) -> Mapping[str, object]:
    """The schema of a draft, a refinement or a verdict. With choices, the answer is one of their letters."""
    answer = {"enum": list(letters)} if letters else {"type": "string", "minLength": 1, "maxLength": 300}
    fields = {
        "caption": {"type": "string", "maxLength": 240},
        "reasoning": {"type": "string", "minLength": 1, "maxLength": 1200},
        "answer": {"type": "string", **answer},
        "confidence": {"type": "integer", "minimum": 0, "maximum": 100},
    }
    return _object({name: fields[name] for name in ANSWER_FIELDS if reason or name != "reasoning"})


def guidance_schema() -> Mapping[str, object]:
    return _object({name: {"type": "string", "minLength": 1, "maxLength": 300} for name in GUIDANCE_FIELDS})


def _object(properties: Mapping[str, object]) -> Mapping[str, object]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _begins_object(text: str) -> bool | None:
    """None as long as the text is too short to decide."""
    begun = text.lstrip()
    if not begun or (begun.startswith("`") and re.fullmatch(r"`{1,3}|```\w*\s*", begun)):
        return None
    return re.match(r"(?:```\w*\s*)?\{", begun) is not None


def _one_line(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(filter(None, map(_one_line, value)))
    return " ".join(str(value).split()) if isinstance(value, str | int | float) else ""
