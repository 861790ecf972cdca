"""MMLU-Pro: text questions with up to ten options, in fourteen categories (arXiv 2406.01574).

Rules: TIGER-AI-Lab/MMLU-Pro, commit f418b11, the second figure ("level 2") of `compute_accuracy.py` on one file. For a
reply that it cannot parse, the script draws one of the letters A to J, whatever the options, from a generator seeded
once. (`evaluate_from_local.py` and `evaluate_from_api.py` parse alike and draw among the question's options.) In some
versions of the data, options "N/A" pad a question to ten; those two scripts drop them, and so do we.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from typing_extensions import override

from ..dataset import Source, open_rows, options_in
from ..scoring import matching
from ..types import Item, ParsedAnswer, letters
from .base import Benchmark, letter_of

_DRAW_SEED = 12345
_FILLER = "N/A"


class MMLUPro(Benchmark):
    name = "mmlu_pro"
    title = "MMLU-Pro"
    modality = "text"
    requires_image = False
    hub = "TIGER-Lab/MMLU-Pro"
    splits: ClassVar[tuple[str, ...]] = ("test", "validation")
    note = "12,032 test questions; asked without the five worked examples of the published metrics"

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
    def format_answer(self, item: Item, answer: str) -> str:
        return f"the answer is ({answer})"

    @override
    def official(self, item: Item, reply: str) -> ParsedAnswer:
        return matching.parse_mmlu_pro(reply)

    @override
    def draw(self, unparsed: Sequence[Item], parsed_answers: Mapping[str, ParsedAnswer]) -> list[str]:
        generator = random.Random(_DRAW_SEED)
        # The script first computes another figure, which only parses the sentence and draws for all other replies.
        for parsed in parsed_answers.values():
            if parsed.how != matching.MMLU_PRO_SENTENCE:
                generator.choice(letters(10))
        return [generator.choice(letters(10)) for _ in unparsed]


BENCHMARKS = (MMLUPro(),)
