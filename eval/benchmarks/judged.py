"""Benchmarks whose answers are judged by a model elsewhere: asked here, handed over as answer files."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from typing_extensions import override

from ..items import Item, Reading
from .base import Benchmark


class JudgedBenchmark(Benchmark):
    """`answers` makes the rows of the file that the benchmark's own judge reads."""

    modality = "text"
    pictured = False
    scored: ClassVar[bool] = False
    answer_format: ClassVar[Literal["json", "jsonl"]] = "jsonl"

    @abstractmethod
    def answers(self, items: Sequence[Item], replies: Mapping[str, str], model: str) -> list[dict[str, Any]]:
        """One row for each question; `model` is the name under which the answers appear."""

    def follow_up(self, items: Sequence[Item], replies: Mapping[str, str]) -> list[Item]:
        """The next turn of conversations that have one, the first being answered."""
        return []

    @override
    def official(self, item: Item, reply: str) -> Reading:
        return Reading(reply, "written")

    @override
    def right(self, item: Item, reading: Reading) -> bool:
        return False
