"""MMLU-Pro: text questions with up to ten options, in fourteen categories (arXiv 2406.01574).

Rules: TIGER-AI-Lab/MMLU-Pro, `compute_accuracy.py`: what is not read is drawn from the letters A to J, the generator
seeded anew each time, so that it is always the same letter.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import ClassVar

from typing_extensions import override

from eval.benchmarks.base import Benchmark, letter_of
from eval.data import Source, open_rows, options_in
from eval.items import Item, Reading, letters
from eval.scoring import matching

_DRAW_SEED = 12345


class MMLUPro(Benchmark):
    name = "mmlu_pro"
    title = "MMLU-Pro"
    modality = "text"
    hub = "TIGER-Lab/MMLU-Pro"
    splits: ClassVar[tuple[str, ...]] = ("test", "validation")
    note = "12,032 test questions; asked without the five worked examples of the published figures"

    @override
    def load(self, source: Source) -> Iterator[Item]:
        for row in open_rows(source, ("question_id", "question", "options", "answer", "category")):
            options = options_in(row)
            yield Item(
                id=str(row["question_id"]),
                question=str(row["question"]),
                gold=(letter_of(row["answer"], options, where=f"question {row['question_id']}"),),
                options=options,
                groups={"category": str(row["category"])},
            )

    @override
    def instruction(self, item: Item) -> str:
        return "Think step by step."

    @override
    def phrase(self, item: Item, answer: str) -> str:
        return f"the answer is ({answer})"

    @override
    def official(self, item: Item, reply: str) -> Reading:
        return matching.read_mmlu_pro(reply)

    @override
    def draw(self, unread: Sequence[Item]) -> list[str]:
        return [random.Random(_DRAW_SEED).choice(letters(10)) for _ in unread]
