"""What a metric is: it grades replies to questions against their gold answers, from 0 to 1."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict
from typing_extensions import override


@dataclass(frozen=True, slots=True)
class Gold:
    """The gold answer of a question: every accepted text, or with `choices`, the letter of the correct one. `number`:
    it was given as a number."""

    accepted: tuple[str, ...]
    choices: tuple[str, ...] = ()
    number: bool = False


@dataclass(frozen=True, slots=True)
class Answered:
    """A question with its gold answer, and a reply to it."""

    question: str
    gold: Gold
    reply: str


class BatchMetric(BaseModel, ABC):
    """Its fields are its settings: `relative` is set by `--metric numeric,relative=0.01`. `note` describes it in one
    line, `source` is where its rule is defined."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    note: ClassVar[str]
    source: ClassVar[str] = ""

    @abstractmethod
    def grade_all(self, answers: Sequence[Answered], folder: Path | None) -> Sequence[float | None]:
        """The grade of each answer, from 0 to 1; None if it could not be graded. `folder` is where a metric can keep
        what it needs to give the same grades again; it may not exist yet."""


class GradingMetric(BatchMetric):
    """A metric that depends on nothing but the reply and the gold answer."""

    @abstractmethod
    def grade(self, reply: str, gold: Gold) -> float:
        """A grade from 0 to 1."""

    @override
    def grade_all(self, answers: Sequence[Answered], folder: Path | None) -> Sequence[float | None]:
        return [self.grade(answer.reply, answer.gold) for answer in answers]


def any_accepted(gold: Gold, matches: Callable[[str], bool]) -> float:
    return float(any(map(matches, gold.accepted)))


def best(grades: Iterable[float]) -> float:
    return max(grades, default=0.0)
