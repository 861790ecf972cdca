"""MMMU-Pro: MMMU made harder, with four or ten options, or with the question within the picture (arXiv 2409.02813).

Rules: MMMU-Benchmark/MMMU, commit bb0b95a, `mmmu-pro/evaluate.py`. Its draws are not seeded; ours are. Columns:
MMMU/MMMU_Pro on the hub. Not every question of "10 options" has ten: they have up to twelve. One question is published
with a list of three options as its only option; to the official script it has the choice A and the answer B, and so it
is never right. Here too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from typing_extensions import override

from ..data import Row, Source, listed, open_rows, options_in, pictures_in
from ..items import Figure, Item, Reading, Score, share
from ..scoring import mmmu_pro
from .base import Benchmark, letter_of, seeded_draws
from .mmmu import PICTURES, SUBJECTS, discipline_figures, groups_of

_DRAW_SEED = 42


class MMMUPro(Benchmark):
    name = "mmmu_pro"
    title = "MMMU-Pro, 10 options"
    hub = "MMMU/MMMU_Pro"
    config = "standard (10 options)"
    subjects: ClassVar[tuple[str, ...]] = SUBJECTS
    note = "1,730 questions"
    columns: ClassVar[tuple[str, ...]] = ("id", "question", "options", "answer", "subject")
    picture_columns: ClassVar[tuple[str, ...]] = (*PICTURES, "images")

    @override
    def load(self, source: Source) -> Iterator[Item]:
        for row in open_rows(source, self.columns, picture_columns=self.picture_columns):
            subject = str(row["subject"])
            if source.subjects and subject not in source.subjects:
                continue
            options = options_in(row)
            yield Item(
                id=str(row["id"]),
                question=str(row.get("question") or "Answer the question in the picture."),
                gold=(_gold(row, options),),
                options=options,
                pictures=pictures_in(row, self.picture_columns, folder=source.folder) if source.pictures else (),
                groups=groups_of(subject, where=str(row["id"])),
            )

    @override
    def official(self, item: Item, reply: str) -> Reading:
        return mmmu_pro.read_choice(reply, item.options)

    @override
    def phrase(self, item: Item, answer: str) -> str:
        return f"Answer: {answer}"

    @override
    def draw(self, unread: Sequence[Item], readings: Mapping[str, Reading]) -> list[str]:
        return seeded_draws(unread, _DRAW_SEED)

    @override
    def figures(self, items: Sequence[Item], scores: Sequence[Score]) -> list[Figure]:
        return [share("Overall", "overall", scores), *discipline_figures(items, scores)]


def _gold(row: Row, options: Sequence[str]) -> str:
    if any(isinstance(option, list) for option in listed(row["options"])):
        return str(row["answer"])
    return letter_of(row["answer"], options, where=str(row["id"]))


class MMMUPro4(MMMUPro):
    name = "mmmu_pro_4"
    title = "MMMU-Pro, 4 options"
    config = "standard (4 options)"


class MMMUProVision(MMMUPro):
    """The picture shows the question and its options; the text says only what to do."""

    name = "mmmu_pro_vision"
    title = "MMMU-Pro, vision"
    config = "vision"
    columns: ClassVar[tuple[str, ...]] = ("id", "options", "answer", "subject")
    picture_columns: ClassVar[tuple[str, ...]] = ("image", "images")
    note = "1,730 questions; the question stands in the picture, and choices are told by their letters only"

    @override
    def shown_options(self, item: Item) -> tuple[str, ...]:
        return item.letters


BENCHMARKS = (MMMUPro(), MMMUPro4(), MMMUProVision())
