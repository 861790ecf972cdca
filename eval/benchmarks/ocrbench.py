"""OCRBench: a thousand questions about text in pictures (arXiv 2305.07895).

Rules and columns: Yuliang-Liu/MultimodalOCR, commit 794c36d, `OCRBench/example.py` and the `OCRBench.json` beside it;
echo840/OCRBench on the hub. The script tells formulas by their data set, HME100k: all of one type, and the type's only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from typing_extensions import override

from ..data import Row, Source, beside, listed, open_rows
from ..items import NOTHING, Figure, Item, Reading, Score, share
from ..scoring import matching
from .base import Benchmark, first_pictures

_FORMULAS = "Handwritten Mathematical Expression Recognition"
_RECOGNITION = frozenset(
    {
        "Regular Text Recognition",
        "Irregular Text Recognition",
        "Artistic Text Recognition",
        "Handwriting Recognition",
        "Digit String Recognition",
        "Non-Semantic Text Recognition",
    }
)
_PICTURES = "OCRBench_Images"


class OCRBench(Benchmark):
    name = "ocrbench"
    title = "OCRBench"
    hub = "echo840/OCRBench"
    note = "1,000 questions; an accepted text must occur in the reply"

    @override
    def load(self, source: Source) -> Iterator[Item]:
        columns, named = ("question", "answer|answers"), ("question_type|category|type",)
        for number, row in enumerate(open_rows(source, columns, named=named, picture_columns=("image", "images"))):
            kind = next((str(row[name]) for name in ("question_type", "category", "type") if row.get(name)), "")
            yield Item(
                id=_id(row, number),
                question=str(row["question"]),
                gold=tuple(str(text) for text in listed(row.get("answers", row.get("answer")))),
                kind="open",
                pictures=_pictures(row, source.folder) if source.pictures else (),
                groups={"type": kind},
            )

    @override
    def official(self, item: Item, reply: str) -> Reading:
        return Reading(reply.strip(), "whole reply") if reply.strip() else NOTHING

    @override
    def right(self, item: Item, reading: Reading) -> bool:
        return matching.right_phrase(reading.value, item.gold, formula=item.groups["type"] == _FORMULAS)

    @override
    def figures(self, items: Sequence[Item], scores: Sequence[Score]) -> list[Figure]:
        """Six of the types are one of the benchmark's five components, text recognition."""
        overall, *types = super().figures(items, scores)
        read = [score for item, score in zip(items, scores, strict=True) if item.groups["type"] in _RECOGNITION]
        return [overall, *([share("Text Recognition", "component", read)] if read else []), *types]


def _id(row: Row, number: int) -> str:
    """VLMEvalKit's index. The official ids are each data set's own; the hub has none, there the row's number counts."""
    if row.get("dataset_name") and row.get("id") not in (None, ""):
        return f"{row['dataset_name']}_{row['id']}"
    return str(row.get("index", row.get("id", number)))


def _pictures(row: Row, folder: Path | None) -> tuple[bytes | Path, ...]:
    """The official file's pictures lie in a folder of their own, beside the folder that has the file."""
    found = first_pictures(row, ("image", "images"), folder=folder)
    name = row.get("image_path")
    if found or not name or folder is None:
        return found
    return (beside(folder, str(name), _PICTURES),)


BENCHMARKS = (OCRBench(),)
