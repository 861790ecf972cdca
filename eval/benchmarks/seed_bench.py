"""SEED-Bench: nine dimensions on pictures (arXiv 2307.16125); its three dimensions on videos are left out.

Rules and columns: AILab-CVC/SEED-Bench, commit 991e849, `eval.py` (questions on pictures are those of types 1 to 9) and
`DATASET.md`. The hub has the same columns, and the pictures as a list in `image`; VLMEvalKit's SEEDBench_IMG has no
videos, and letters A to D for columns.
"""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from typing_extensions import override

from ..data import Row, Source, beside
from .multiple_choice import MultipleChoiceBenchmark

_PICTURES = "SEED-Bench-image"
_DIMENSIONS = (
    "Scene Understanding",
    "Instance Identity",
    "Instance Attributes",
    "Instance Location",
    "Instances Counting",
    "Spatial Relation",
    "Instance Interaction",
    "Visual Reasoning",
    "Text Understanding",
)


class SeedBench(MultipleChoiceBenchmark):
    name = "seed_bench"
    title = "SEED-Bench (image)"
    hub = "lmms-lab-encoder/SEED-Bench"
    group_columns = MappingProxyType({"dimension": ("category",)})
    id_columns: ClassVar[tuple[str, ...]] = ("index", "question_id", "id")
    note = "14,233 questions; the authors rank options by likelihood, here the letter that is written counts"

    @override
    def wanted(self, row: Row) -> bool:
        kind = _kind(row)
        return kind <= len(_DIMENSIONS) if kind else str(row.get("data_type", "image")) == "image"

    @override
    def pictures(self, row: Row, source: Source) -> tuple[bytes | Path, ...]:
        found = super().pictures(row, source)
        if not found and row.get("data_id") and source.folder:
            # The official JSON names the picture's file, which has no ending, by the data's id.
            return (beside(source.folder, str(row["data_id"]), _PICTURES),)
        return found

    @override
    def groups(self, row: Row) -> dict[str, str]:
        kind = _kind(row)
        return {"dimension": _DIMENSIONS[kind - 1]} if kind else super().groups(row)


def _kind(row: Row) -> int:
    """The number of the question's type, from 1; 0 where the file does not say."""
    kind = str(row.get("question_type_id", ""))
    return int(kind) if kind.isdecimal() else 0


BENCHMARKS = (SeedBench(),)
