"""OCRBench: a thousand questions about text in images (arXiv 2305.07895).

Rules and columns: Yuliang-Liu/MultimodalOCR, commit 794c36d, `OCRBench/example.py` and the `OCRBench.json` beside it;
echo840/OCRBench on the hub. The script recognizes formulas by their data set, HME100k,
which has all questions of one type.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from typing_extensions import override

from ..dataset import Row, Source, beside, listed, open_rows
from ..scoring import matching
from ..types import Item, Metric, ParsedAnswer, Score, micro_average, whole_reply
from .base import Benchmark, first_images

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
        for number, row in enumerate(open_rows(source, columns, named=named, image_columns=("image", "images"))):
            kind = next((str(row[name]) for name in ("question_type", "category", "type") if row.get(name)), "")
            yield Item(
                id=_id(row, number),
                question=str(row["question"]),
                gold=tuple(str(text) for text in listed(row.get("answers", row.get("answer")))),
                kind="open",
                images=_pictures(row, source.folder) if source.images else (),
                groups={"type": kind},
            )

    @override
    def official(self, item: Item, reply: str) -> ParsedAnswer:
        return whole_reply(reply)

    @override
    def is_correct(self, item: Item, parsed: ParsedAnswer) -> bool:
        return matching.contains_accepted_text(parsed.value, item.gold, formula=item.groups["type"] == _FORMULAS)

    @override
    def metrics(self, items: Sequence[Item], scores: Sequence[Score]) -> list[Metric]:
        """Six of the types together form the component Text Recognition."""
        overall, *types = super().metrics(items, scores)
        read = [score for item, score in zip(items, scores, strict=True) if item.groups["type"] in _RECOGNITION]
        return [overall, *([micro_average("Text Recognition", "component", read)] if read else []), *types]


def _id(row: Row, number: int) -> str:
    """VLMEvalKit's index, the official id with its data set, or the row number (the hub has no ids)."""
    if row.get("dataset_name") and row.get("id") not in (None, ""):
        return f"{row['dataset_name']}_{row['id']}"
    return str(row.get("index", row.get("id", number)))


def _pictures(row: Row, folder: Path | None) -> tuple[bytes | Path, ...]:
    """The official images are in a folder beside the one that holds the file."""
    found = first_images(row, ("image", "images"), folder=folder)
    name = row.get("image_path")
    if found or not name or folder is None:
        return found
    return (beside(folder, str(name), _PICTURES),)


BENCHMARKS = (OCRBench(),)
