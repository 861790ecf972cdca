"""MMLU-Pro: text questions with up to ten options, in fourteen categories (arXiv 2406.01574).

Rules: TIGER-AI-Lab/MMLU-Pro, commit f418b11, `compute_accuracy.py` on one file of replies, of which ours is the second
figure ("level 2"). What is not read is drawn from the letters A to J, whichever options there are, by a generator that
is seeded once. (`evaluate_from_local.py` and `evaluate_from_api.py` read alike and draw among the question's options.)
Options "N/A" only fill a question up to ten, in some versions of the data; those two scripts drop them, and so do we.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from typing_extensions import override

from ..data import Source, open_rows, options_in
from ..items import Item, Reading, letters
from ..scoring import matching
from .base import Benchmark, letter_of

_DRAW_SEED = 12345
_FILLER = "N/A"


class MMLUPro(Benchmark):
    name = "mmlu_pro"
    title = "MMLU-Pro"
    modality = "text"
    pictured = False
    hub = "TIGER-Lab/MMLU-Pro"
    splits: ClassVar[tuple[str, ...]] = ("test", "validation")
    note = "12,032 test questions; asked without the five worked examples of the published figures"

    @override
    def load(self, source: Source) -> Iterator[Item]:
        for row in open_rows(source, ("question_id", "question", "options", "answer", "category")):
            options = tuple(option for option in options_in(row) if option != _FILLER)
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
    def draw(self, unread: Sequence[Item], readings: Mapping[str, Reading]) -> list[str]:
        generator = random.Random(_DRAW_SEED)
        # The script's first figure reads the sentence only, and draws for whatever has none, before the second's turn.
        for reading in readings.values():
            if reading.how != matching.MMLU_PRO_SENTENCE:
                generator.choice(letters(10))
        return [generator.choice(letters(10)) for _ in unread]


BENCHMARKS = (MMLUPro(),)
