"""What a metric is: it grades a reply against the gold answer of a question, from 0 to 1."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar

from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True, slots=True)
class Gold:
    """The gold answer of a question: every accepted text, or with `choices`, the letter of the correct one. `number`:
    it was given as a number."""

    accepted: tuple[str, ...]
    choices: tuple[str, ...] = ()
    number: bool = False


class GradingMetric(BaseModel, ABC):
    """Its fields are its settings: `relative` is set by `--metric numeric,relative=0.01`. `note` describes it in one
    line, `source` is where its rule is defined."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    note: ClassVar[str]
    source: ClassVar[str] = ""

    @abstractmethod
    def grade(self, reply: str, gold: Gold) -> float:
        """A grade from 0 to 1."""


def any_accepted(gold: Gold, matches: Callable[[str], bool]) -> float:
    return float(any(map(matches, gold.accepted)))


def best(grades: Iterable[float]) -> float:
    return max(grades, default=0.0)
