"""SEED-Bench: the nine dimensions with images (arXiv 2307.16125), without the three with videos.

Rules and columns: AILab-CVC/SEED-Bench, commit 991e849, `eval.py` (types 1 to 9 have images) and `DATASET.md`. The
hub has the same columns, with a list of images in `image`. VLMEvalKit's SEEDBench_IMG has no videos, and its columns
are A to D.
"""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from typing_extensions import override

from ..dataset import Row, Source, beside
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
    note = "14,233 questions; scored by the letter in the reply, while the authors rank options by likelihood"

    @override
    def wanted(self, row: Row) -> bool:
        kind = _kind(row)
        return kind <= len(_DIMENSIONS) if kind else str(row.get("data_type", "image")) == "image"

    @override
    def images(self, row: Row, source: Source) -> tuple[bytes | Path, ...]:
        found = super().images(row, source)
        if not found and row.get("data_id") and source.folder:
            # In the official data, image files are named by the data id, without an extension.
            return (beside(source.folder, str(row["data_id"]), _PICTURES),)
        return found

    @override
    def groups(self, row: Row) -> dict[str, str]:
        kind = _kind(row)
        return {"dimension": _DIMENSIONS[kind - 1]} if kind else super().groups(row)


def _kind(row: Row) -> int:
    """The question's type, from 1; 0 if the file has none."""
    kind = str(row.get("question_type_id", ""))
    return int(kind) if kind.isdecimal() else 0


BENCHMARKS = (SeedBench(),)
