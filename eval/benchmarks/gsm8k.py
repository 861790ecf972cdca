"""GSM8K: word problems of primary school (arXiv 2110.14168).

Rules: openai/grade-school-math, commit 3101c7d, `grade_school_math/dataset.py`: the number after `####`, commas
dropped, must be written as gold's is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

from typing_extensions import override

from ..data import Source, open_rows
from ..items import Item, Reading
from ..scoring import lenient, matching
from .base import Benchmark


class GSM8K(Benchmark):
    name = "gsm8k"
    title = "GSM8K"
    modality = "text"
    pictured = False
    hub = "openai/gsm8k"
    config = "main"
    splits: ClassVar[tuple[str, ...]] = ("test", "train")
    note = "1,319 test questions; the answer stands after ####"

    @override
    def load(self, source: Source) -> Iterator[Item]:
        for number, row in enumerate(open_rows(source, ("question", "answer"))):
            gold = matching.read_gsm8k(str(row["answer"])).value or str(row["answer"]).strip().replace(",", "")
            yield Item(str(row.get("id", number)), str(row["question"]), (gold,), "open")

    @override
    def instruction(self, item: Item) -> str:
        return "Think step by step."

    @override
    def phrase(self, item: Item, answer: str) -> str:
        number = lenient.read_number(answer).value
        return f"#### {number}" if number else answer

    @override
    def official(self, item: Item, reply: str) -> Reading:
        return matching.read_gsm8k(reply)

    @override
    def lenient(self, item: Item, reply: str) -> Reading:
        official = self.official(item, reply)
        reading = lenient.read_number(official.value or reply)
        return replace(reading, value=_plain(reading.value), how=official.how if official.value else reading.how)


def _plain(number: str) -> str:
    """Without decimals that are noughts: 7.00 is 7, as gold is written."""
    return number.rstrip("0").rstrip(".") if "." in number else number


BENCHMARKS = (GSM8K(),)
