"""The base classes of benchmarks that a judge model scores: answers are written to files for its own scripts."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from typing_extensions import override

from ..types import Item, ParsedAnswer
from .base import Benchmark


class AnswerFile(ABC):
    """What a benchmark has whose own scripts read a file of answers."""

    answer_format: ClassVar[Literal["json", "jsonl"]] = "jsonl"

    @abstractmethod
    def answers(
        self, items: Sequence[Item], replies: Mapping[str, str], model: str
    ) -> list[dict[str, Any]] | dict[str, Any]:
        """One row per question, in a list or by id. `model` is the name that the judge shows."""


class JudgedBenchmark(AnswerFile, Benchmark):
    modality = "text"
    requires_image = False
    scored: ClassVar[bool] = False

    def follow_up(self, items: Sequence[Item], replies: Mapping[str, str]) -> list[Item]:
        """The second turn of each answered conversation that has one."""
        return []

    @override
    def official(self, item: Item, reply: str) -> ParsedAnswer:
        return ParsedAnswer(reply, "written")

    @override
    def is_correct(self, item: Item, parsed: ParsedAnswer) -> bool:
        return False


def answer_id(model: str, item: Item) -> str:
    """An id as long as FastChat's, which depends only on model and question."""
    return hashlib.sha256(f"{model}/{item.id}".encode()).hexdigest()[:22]
