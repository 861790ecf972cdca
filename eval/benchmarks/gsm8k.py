"""GSM8K: grade-school word problems (arXiv 2110.14168).

Rules: openai/grade-school-math, commit 3101c7d, `grade_school_math/dataset.py`: the number after `####`,
without commas, must be spelled as in the gold answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

from typing_extensions import override

from ..dataset import Source, open_rows
from ..scoring import lenient, matching
from ..types import Item, ParsedAnswer
from .base import Benchmark


class GSM8K(Benchmark):
    name = "gsm8k"
    title = "GSM8K"
    modality = "text"
    requires_image = False
    hub = "openai/gsm8k"
    config = "main"
    splits: ClassVar[tuple[str, ...]] = ("test", "train")
    note = "1,319 test questions; the answer follows ####"

    @override
    def load(self, source: Source) -> Iterator[Item]:
        for number, row in enumerate(open_rows(source, ("question", "answer"))):
            gold = matching.parse_gsm8k(str(row["answer"])).value or str(row["answer"]).strip().replace(",", "")
            yield Item(str(row.get("id", number)), str(row["question"]), (gold,), "open")

    @override
    def instruction(self, item: Item) -> str:
        return "Think step by step."

    @override
    def format_answer(self, item: Item, answer: str) -> str:
        number = lenient.parse_number(answer).value
        return f"#### {number}" if number else answer

    @override
    def official(self, item: Item, reply: str) -> ParsedAnswer:
        return matching.parse_gsm8k(reply)

    @override
    def lenient(self, item: Item, reply: str) -> ParsedAnswer:
        official = self.official(item, reply)
        parsed = lenient.parse_number(official.value or reply)
        return replace(parsed, value=_plain(parsed.value), how=official.how if official.value else parsed.how)


def _plain(number: str) -> str:
    """Drop trailing zeros: 7.00 becomes 7, as gold answers are written."""
    return number.rstrip("0").rstrip(".") if "." in number else number


BENCHMARKS = (GSM8K(),)
