"""easy-VQA: drawn shapes of one colour each, with 13 possible answers.

The data are in the package `easy-vqa` by Victor Zhou (MIT licence, github.com/vzhou842/easy-VQA). The package has no
script for scoring; its author reports the accuracy of a classifier over the answers. Here an answer is correct if it is
the same after normalization (`colm_vl.answers.same`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from typing_extensions import override

from colm_vl.answers import same
from colm_vl.errors import InputError
from colm_vl.extras import require

from ..dataset import Source
from ..types import Item, ParsedAnswer, Rule, whole_reply
from .base import Benchmark

_COLOURS = frozenset({"black", "blue", "brown", "gray", "green", "red", "teal", "yellow"})


class EasyVQA(Benchmark):
    name = "easy_vqa"
    title = "easy-VQA"
    splits: ClassVar[tuple[str, ...]] = ("test", "train")
    rules: ClassVar[tuple[Rule, ...]] = (Rule.STRICT,)
    note = "9,673 questions about drawn shapes, in the package easy-vqa: works offline"

    @override
    def load(self, source: Source) -> Iterator[Item]:
        if source.path is not None:
            raise InputError("easy-VQA reads the data in its package", hint="leave --data out")
        data = require("easy_vqa", "easy-vqa")
        of_test = source.split == "test"
        questions, answers, numbers = data.get_test_questions() if of_test else data.get_train_questions()
        images = data.get_test_image_paths() if of_test else data.get_train_image_paths()
        for position, (question, answer, number) in enumerate(zip(questions, answers, numbers, strict=True)):
            yield Item(
                id=f"{number}-{position}",
                question=question[:1].upper() + question[1:],
                gold=(answer,),
                kind="open",
                images=(Path(images[number]),) if source.images else (),
                groups={"answer": _kind(answer)},
            )

    @override
    def gold(self, path: Path, split: str) -> list[Item]:
        raise InputError("easy-VQA has no gold file of its own", hint="run it with `colm-vl eval run easy_vqa`")

    @override
    def official(self, item: Item, reply: str) -> ParsedAnswer:
        return whole_reply(reply)

    @override
    def is_correct(self, item: Item, parsed: ParsedAnswer) -> bool:
        return same(parsed.value, item.gold[0])


def _kind(answer: str) -> str:
    if answer in ("yes", "no"):
        return "yes or no"
    return "colour" if answer in _COLOURS else "shape"


BENCHMARKS = (EasyVQA(),)
