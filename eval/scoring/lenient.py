"""A better reader than the official ones: for telling a wrong answer from one that a benchmark's script cannot read."""

from __future__ import annotations

import re
from collections.abc import Sequence

from colm_vl.answers import find_choice, strip_markup

from ..items import NOTHING, Reading, letters

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
"""How many statements of an answer are read, the last first, and how many characters of each."""
_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|-?\.\d+")


def read_choice(reply: str, options: Sequence[str], count: int = 0) -> Reading:
    """The letter of the choice that a reply settles on. Where the options' texts are unknown, `count` letters are.

    What is looked at, in this order: the last box, what follows the last "answer is" that can be read, the whole reply,
    its last line, its first line, a lone letter that is the only one.
    """
    options = tuple(options) or letters(count)
    reply = _own_part(reply)
    for how, text in _places(reply):
        choice = find_choice(text, options) if text.strip() else None
        if choice is not None:
            return Reading(choice, how)
    lone = set(_LONE_LETTER.findall(reply)) & set(letters(len(options)))
    return Reading(lone.pop(), "lone letter") if len(lone) == 1 else NOTHING


def read_text(reply: str) -> Reading:
    """The words that an open reply settles on: the last box, what follows the last "answer is", else its last line."""
    for how, text in _places(reply):
        stripped = strip_markup(text).strip().rstrip(".")
        if how != "whole reply" and stripped:
            return Reading(stripped, how)
    return NOTHING


def read_number(reply: str) -> Reading:
    """The number that a reply settles on: in the last box, else after the last "answer is", else the last of all."""
    for how, text in _places(reply):
        numbers = _NUMBER.findall(text)
        if numbers:
            first = how in {"box", "says so"}
            return Reading((numbers[0] if first else numbers[-1]).replace(",", ""), how)
    return NOTHING


def _own_part(reply: str) -> str:
    """Without the next question, which base models go on to make up once they have answered this one."""
    said = _SAYS.search(reply) or _BOXED.search(reply)
    following = _NEXT_QUESTION.search(reply, said.end()) if said else None
    return reply[: following.start()] if following else reply


def _places(reply: str) -> list[tuple[str, str]]:
    """Where an answer may stand, the most telling first: how it would be read, and the text there."""
    places = [("box", box) for box in _BOXED.findall(reply)[-1:]]
    ends = [said.end() for said in _SAYS.finditer(reply)][-_STATEMENTS:]
    places += [("says so", reply[end : end + _STATEMENT].partition("\n")[0]) for end in reversed(ends)]
    lines = [line for line in reply.splitlines() if line.strip()]
    places.append(("whole reply", reply))
    if lines:
        places += [("last line", lines[-1]), ("first line", lines[0])]
    return places
