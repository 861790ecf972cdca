"""The pocket world: drawn images of the kind that the pocket team was trained on, with unseen questions."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from PIL import Image
from typing_extensions import override

from colm_vl.answers import same
from colm_vl.errors import InputError

from ..dataset import Source
from ..scoring import lenient
from ..types import Item, ParsedAnswer, whole_reply
from .base import Benchmark

if TYPE_CHECKING:
    from colm_vl.pocket.world import Sample


_FRESH = re.compile(r"^fresh-(?P<seed>\d{1,18})$")


class Pocket(Benchmark):
    name = "pocket"
    title = "Pocket world"
    requires_image = False
    splits: ClassVar[tuple[str, ...]] = ("test", "validation")
    note = (
        "1,200 generated questions about drawn images; says something about the method, not about real images; "
        "`--split fresh-N` generates other questions, with N as the seed"
    )

    @override
    def source(self, path: Path | None, split: str, subjects: Sequence[str] = ()) -> Source:
        if _FRESH.match(split):
            return replace(super().source(path, self.splits[0], subjects), split=split)
        return super().source(path, split, subjects)

    @override
    def load(self, source: Source) -> Iterator[Item]:
        if source.path is not None:
            raise InputError("the pocket world generates its questions and reads no data", hint="leave --data out")
        for sample in _samples(source.split):
            yield Item(
                id=sample.id,
                question=sample.question,
                gold=(sample.answer,),
                kind="choice" if sample.choices else "open",
                options=sample.choices,
                images=tuple(map(_png, sample.pictures)) if source.images else (),
                groups={"domain": sample.domain, "question": sample.kind},
            )

    @override
    def gold(self, path: Path, split: str) -> list[Item]:
        raise InputError("the pocket world has no gold file", hint="run it with `colm-vl eval run pocket`")

    @override
    def official(self, item: Item, reply: str) -> ParsedAnswer:
        if item.kind == "choice":
            return lenient.parse_choice(reply, item.options)
        return whole_reply(reply)

    @override
    def is_correct(self, item: Item, parsed: ParsedAnswer) -> bool:
        return super().is_correct(item, parsed) if item.kind == "choice" else same(parsed.value, item.gold[0])


def _samples(split: str) -> Iterator[Sample]:
    from colm_vl.pocket import world

    if fresh := _FRESH.match(split):
        return world.generate(int(fresh["seed"]), world.TEST_SIZE)
    return world.split(cast("Literal['test', 'validation']", split))


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return file.getvalue()


BENCHMARKS = (Pocket(),)
