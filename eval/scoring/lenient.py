"""The lenient parser. It finds answers that official scripts miss, so that wrong answers differ from unparsed ones."""

from __future__ import annotations

import re
from collections.abc import Sequence

from colm_vl.answers import find_choice, strip_markup

from ..types import NOTHING, ParsedAnswer, letters

_BOXED = re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}")
_SAYS = re.compile(
    r"(?i)\b(?:final answer|answer|correct option|correct choice)\b[*_]*\s*(?:is\b|:|=)[\s*_:=]*(?:is\b\s*:?\s*)?"
)
_LONE_LETTER = re.compile(r"(?<![A-Za-z])\(?([A-Z])\)?(?=(?!\.[A-Za-z]\b)[).:,]|[^\S\n]*$)", re.MULTILINE)
_NEXT_QUESTION = re.compile(
    r"(?i)^[^\w\n]*(?:(?:next )?question|q|problem|exercise|instruction|response|user|human)\b"
    r"[^\S\n]*\d{0,6}[^\S\n]*(?:[:.=*#]|$)",
    re.MULTILINE,
)
_STATEMENTS, _STATEMENT = 20, 500
"""How many statements such as "the answer is" are parsed, from the last, and how many characters of each."""
_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|-?\.\d+")


def parse_choice(reply: str, options: Sequence[str], count: int = 0) -> ParsedAnswer:
    """The letter of the choice that a reply settles on. Pass `count`, the number of choices, if `options` is unknown.

    Tried in this order: the last box, the text after the last "answer is", the whole reply, its last line, its first
    line, the only letter that stands alone.
    """
    options = tuple(options) or letters(count)
    reply = _own_part(reply)
    for how, text in _places(reply):
        choice = find_choice(text, options) if text.strip() else None
        if choice is not None:
            return ParsedAnswer(choice, how)
    lone = set(_LONE_LETTER.findall(reply)) & set(letters(len(options)))
    return ParsedAnswer(lone.pop(), "lone letter") if len(lone) == 1 else NOTHING


def parse_text(reply: str) -> ParsedAnswer:
    """The text that an open reply settles on: in the last box, after the last "answer is", or its last line."""
    for how, text in _places(reply):
        stripped = strip_markup(text).strip().rstrip(".")
        if how != "whole reply" and stripped:
            return ParsedAnswer(stripped, how)
    return NOTHING


def parse_number(reply: str) -> ParsedAnswer:
    """The number that a reply settles on: in the last box, after the last "answer is", or the last of all."""
    for how, text in _places(reply):
        numbers = _NUMBER.findall(text)
        if numbers:
            first = how in {"box", "says so"}
            return ParsedAnswer((numbers[0] if first else numbers[-1]).replace(",", ""), how)
    return NOTHING


def _own_part(reply: str) -> str:
    """Cut off a following question, which base models tend to invent after their answer."""
    said = _SAYS.search(reply) or _BOXED.search(reply)
    following = _NEXT_QUESTION.search(reply, said.end()) if said else None
    return reply[: following.start()] if following else reply


def _places(reply: str) -> list[tuple[str, str]]:
    """The texts that may hold the answer, the most reliable first, each with the name of its kind."""
    places = [("box", box) for box in _BOXED.findall(reply)[-1:]]
    ends = [said.end() for said in _SAYS.finditer(reply)][-_STATEMENTS:]
    places += [("says so", reply[end : end + _STATEMENT].partition("\n")[0]) for end in reversed(ends)]
    lines = [line for line in reply.splitlines() if line.strip()]
    places.append(("whole reply", reply))
    if lines:
        places += [("last line", lines[-1]), ("first line", lines[0])]
    return places
