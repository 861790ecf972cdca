"""The pocket world: drawn pictures that the pocket team was trained for, on questions it has never seen."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal, cast

from PIL import Image
from typing_extensions import override

from colm_vl.answers import same
from colm_vl.errors import InputError

from ..data import Source
from ..items import NOTHING, Item, Reading
from ..scoring import lenient
from .base import Benchmark


class Pocket(Benchmark):
    name = "pocket"
    title = "Pocket world"
    pictured = False
    splits: ClassVar[tuple[str, ...]] = ("test", "validation")
    note = "1,200 questions about drawn pictures, made on the spot; tells about the method, not about real pictures"

    @override
    def load(self, source: Source) -> Iterator[Item]:
        from colm_vl.pocket import world

        if source.path is not None:
            raise InputError("the pocket world makes its own questions, it reads no data", hint="leave --data out")
        for sample in world.split(cast("Literal['test', 'validation']", source.split)):
            yield Item(
                id=sample.id,
                question=sample.question,
                gold=(sample.answer,),
                kind="choice" if sample.choices else "open",
                options=sample.choices,
                pictures=tuple(map(_png, sample.pictures)) if source.pictures else (),
                groups={"domain": sample.domain, "question": sample.kind},
            )

    @override
    def gold(self, path: Path, split: str) -> list[Item]:
        raise InputError("the pocket world has no gold file", hint="score it with `colm-vl eval run pocket`")

    @override
    def official(self, item: Item, reply: str) -> Reading:
        if item.kind == "choice":
            return lenient.read_choice(reply, item.options)
        return Reading(reply.strip(), "whole reply") if reply.strip() else NOTHING

    @override
    def right(self, item: Item, reading: Reading) -> bool:
        return super().right(item, reading) if item.kind == "choice" else same(reading.value, item.gold[0])


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return file.getvalue()


BENCHMARKS = (Pocket(),)
