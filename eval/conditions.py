"""Conditions on accuracies, such as `colm < vote - 1`, for checks that stop a build (`eval compare --fail-if`).

    condition = side ("<" | "<=" | ">" | ">=") side
    side      = (name | "quoted name" | number) [("+" | "-") number]

Numbers and accuracies are percentages.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from typing_extensions import override

from colm_vl.errors import InputError

_SIDE = r'(?:(\d+(?:\.\d+)?)|"([^"]+)"|([^\s"<>=]+))\s*([+-]\s*\d+(?:\.\d+)?)?'
_CONDITION = re.compile(rf"\s*{_SIDE}\s*([<>]=?)\s*{_SIDE}\s*")
_RELATIONS: Mapping[str, Callable[[float, float], bool]] = MappingProxyType(
    {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
)
_DIGITS = 9
"""Decimals to which sides are compared: 82.99999999999999 is 83."""


@dataclass(frozen=True, slots=True)
class Side:
    """A name or a number, plus an offset in percentage points."""

    name: str
    number: float
    offset: float


@dataclass(frozen=True, slots=True)
class Condition:
    text: str
    left: Side
    relation: str
    right: Side

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(side.name for side in (self.left, self.right) if side.name)


@dataclass(frozen=True, slots=True)
class Finding:
    """A condition with its figures in percent. They are those of the `questions` that all of its names answered."""

    condition: str
    held: bool
    left: float
    right: float
    questions: int

    @override
    def __str__(self) -> str:
        held = "holds" if self.held else "does not hold"
        return f"{self.condition}: {held} ({self.left:.2f} and {self.right:.2f} on {self.questions} questions)"


def parse(text: str) -> Condition:
    """Raises `InputError` for a text that is not a condition about at least one name."""
    found = _CONDITION.fullmatch(text)
    if found:
        *left, relation = found.groups()[:5]
        condition = Condition(text.strip(), _side(*left), relation, _side(*found.groups()[5:]))
        if condition.names:
            return condition
    raise InputError(
        f"--fail-if {text!r} is not a condition",
        hint='expected one such as "colm < vote - 1" or "colm < 80"; the relations are < <= > >=',
    )


def _side(number: str | None, quoted: str | None, word: str | None, offset: str | None) -> Side:
    return Side(quoted or word or "", float(number or 0), float("".join((offset or "0").split())))


def check(condition: Condition, grades: Mapping[str, Mapping[str, float]]) -> Finding:
    """Evaluate a condition on grades from 0 to 1 by name and question.

    Raises `InputError` for an unknown name, and if no question was answered by all names.
    """
    unknown = [name for name in condition.names if name not in grades]
    if unknown:
        raise InputError(
            f"--fail-if {condition.text!r}: nothing is called {unknown[0]!r}",
            hint=f"one of: {', '.join(grades)}; put spaces around + and -, and a name with spaces in quotes",
        )
    answered = [grades[name] for name in condition.names]
    shared = [key for key in answered[0] if all(key in found for found in answered)]
    if not shared:
        raise InputError(f"--fail-if {condition.text!r}: no graded question in common", hint="compare other answers")
    left, right = (
        round(100 * sum(grades[side.name][key] for key in shared) / len(shared) + side.offset, _DIGITS)
        if side.name
        else round(side.number + side.offset, _DIGITS)
        for side in (condition.left, condition.right)
    )
    return Finding(condition.text, _RELATIONS[condition.relation](left, right), left, right, len(shared))
