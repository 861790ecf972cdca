"""SEED-Bench: nine dimensions on pictures (arXiv 2307.16125); its three dimensions on videos are left out."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from typing_extensions import override

from eval.benchmarks.letters import LetterBenchmark
from eval.data import Row, Source, pictures_in

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


class SeedBench(LetterBenchmark):
    name = "seed_bench"
    title = "SEED-Bench (image)"
    hub = "lmms-lab/SEED-Bench"
    group_columns = MappingProxyType({"dimension": ("category",)})
    id_columns: ClassVar[tuple[str, ...]] = ("index", "question_id", "id")
    note = "14,233 questions; the authors rank options by likelihood, here the letter that is written counts"

    @override
    def wanted(self, row: Row) -> bool:
        return str(row.get("data_type", "image")) == "image"

    @override
    def pictures(self, row: Row, source: Source) -> tuple[bytes | Path, ...]:
        found = pictures_in(row, self.picture_columns, folder=source.folder)
        if not found and row.get("data_id") and source.folder:
            # The official JSON names the picture's file, which has no ending, by the data's id.
            return (source.folder / str(row["data_id"]),)
        return found

    @override
    def groups(self, row: Row) -> dict[str, str]:
        kind = str(row.get("question_type_id", ""))
        if kind.isdecimal() and 1 <= int(kind) <= len(_DIMENSIONS):
            return {"dimension": _DIMENSIONS[int(kind) - 1]}
        return super().groups(row)
