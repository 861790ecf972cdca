"""MMMU-Pro: a harder MMMU with four or ten options, or with the question inside the image (arXiv 2409.02813).

Rules: MMMU-Benchmark/MMMU, commit bb0b95a, `mmmu-pro/evaluate.py`. Its random choices are not seeded; ours are.
Columns: MMMU/MMMU_Pro on the hub. Questions of "10 options" have up to twelve. One question is published with a list of
three options as its only option: the official script sees choice A and answer B, so no reply is correct, here either.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from typing_extensions import override

from ..dataset import Row, Source, images_in, listed, open_rows, options_in
from ..scoring import mmmu_pro
from ..types import Item, Metric, ParsedAnswer, Score, micro_average
from .base import Benchmark, letter_of, seeded_draws
from .mmmu import PICTURES, SUBJECTS, discipline_metrics, groups_of

_DRAW_SEED = 42


class MMMUPro(Benchmark):
    name = "mmmu_pro"
    title = "MMMU-Pro, 10 options"
    hub = "MMMU/MMMU_Pro"
    config = "standard (10 options)"
    subjects: ClassVar[tuple[str, ...]] = SUBJECTS
    note = "1,730 questions"
    columns: ClassVar[tuple[str, ...]] = ("id", "question", "options", "answer", "subject")
    image_columns: ClassVar[tuple[str, ...]] = (*PICTURES, "images")

    @override
    def load(self, source: Source) -> Iterator[Item]:
        for row in open_rows(source, self.columns, image_columns=self.image_columns):
            subject = str(row["subject"])
            if source.subjects and subject not in source.subjects:
                continue
            options = options_in(row)
            yield Item(
                id=str(row["id"]),
                question=str(row.get("question") or "Answer the question in the picture."),
                gold=(_gold(row, options),),
                options=options,
                images=images_in(row, self.image_columns, folder=source.folder) if source.images else (),
                groups=groups_of(subject, where=str(row["id"])),
            )

    @override
    def official(self, item: Item, reply: str) -> ParsedAnswer:
        return mmmu_pro.parse_choice(reply, item.options)

    @override
    def format_answer(self, item: Item, answer: str) -> str:
        return f"Answer: {answer}"

    @override
    def draw(self, unparsed: Sequence[Item], parsed_answers: Mapping[str, ParsedAnswer]) -> list[str]:
        return seeded_draws(unparsed, _DRAW_SEED)

    @override
    def metrics(self, items: Sequence[Item], scores: Sequence[Score]) -> list[Metric]:
        return [micro_average("Overall", "overall", scores), *discipline_metrics(items, scores)]


def _gold(row: Row, options: Sequence[str]) -> str:
    if any(isinstance(option, list) for option in listed(row["options"])):
        return str(row["answer"])
    return letter_of(row["answer"], options, where=str(row["id"]))


class MMMUPro4(MMMUPro):
    name = "mmmu_pro_4"
    title = "MMMU-Pro, 4 options"
    config = "standard (4 options)"


class MMMUProVision(MMMUPro):
    """The image shows the question and its options; the text only asks to answer it."""

    name = "mmmu_pro_vision"
    title = "MMMU-Pro, vision"
    config = "vision"
    columns: ClassVar[tuple[str, ...]] = ("id", "options", "answer", "subject")
    image_columns: ClassVar[tuple[str, ...]] = ("image", "images")
    note = "1,730 questions; the question is in the image, and the prompt lists only the letters of the choices"

    @override
    def shown_options(self, item: Item) -> tuple[str, ...]:
        return item.letters


BENCHMARKS = (MMMUPro(), MMMUPro4(), MMMUProVision())
