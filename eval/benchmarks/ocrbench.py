"""OCRBench: a thousand questions about text in pictures (arXiv 2305.07895).

Rules: Yuliang-Liu/MultimodalOCR, the example script of OCRBench.
"""

from __future__ import annotations

from collections.abc import Iterator

from typing_extensions import override

from eval.benchmarks.base import Benchmark
from eval.data import Source, listed, open_rows, pictures_in
from eval.items import NOTHING, Item, Reading
from eval.scoring import matching

_FORMULAS = "Handwritten Mathematical Expression Recognition"


class OCRBench(Benchmark):
    name = "ocrbench"
    title = "OCRBench"
    hub = "echo840/OCRBench"
    note = "1,000 questions; an accepted text must occur in the reply"

    @override
    def load(self, source: Source) -> Iterator[Item]:
        columns = ("question", "answer|answers", "question_type|category|type")
        for number, row in enumerate(open_rows(source, columns, picture_columns=("image", "image_path"))):
            kind = next(str(row[name]) for name in ("question_type", "category", "type") if row.get(name))
            yield Item(
                id=str(row.get("index", row.get("id", number))),
                question=str(row["question"]),
                gold=tuple(str(text) for text in listed(row.get("answers", row.get("answer")))),
                kind="open",
                pictures=pictures_in(row, ("image", "image_path"), folder=source.folder) if source.pictures else (),
                groups={"type": kind},
            )

    @override
    def official(self, item: Item, reply: str) -> Reading:
        return Reading(reply.strip(), "whole reply") if reply.strip() else NOTHING

    @override
    def right(self, item: Item, reading: Reading) -> bool:
        return matching.right_phrase(reading.value, item.gold, formula=item.groups["type"] == _FORMULAS)
