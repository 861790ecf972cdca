"""Replies of trained members about training pictures, from which the stages guide and refine learn.

A corpus file has one JSON line for each question, with its index and the draft or guidance. The question itself is
generated again from the index.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random

from colm_vl.pocket import world
from colm_vl.pocket.training import material
from colm_vl.pocket.world import Sample

PER_SCENE = 2


def sample(index: int) -> Sample:
    """Question `index` of the corpus: the domains in turn, with two consecutive questions per scene. Its scenes are not
    used in other stages."""
    scene, number = divmod(index, PER_SCENE)
    key = f"train/corpus/{scene}"
    named = domain(scene)
    return world.samples_of(key, material.scene(key, named), Random(f"{key}/{named}"), PER_SCENE)[number]


def domain(scene: int) -> str:
    return material.ALL[scene % len(material.ALL)]


def write(path: Path, lines: Mapping[int, str]) -> None:
    """Write replies by question index."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps({"index": index, "text": reply}) + "\n" for index, reply in lines.items())
    path.write_text(text, encoding="utf-8")


def read(path: Path) -> dict[int, str]:
    return {int(line["index"]): str(line["text"]) for line in _lines(path)}


def _lines(path: Path) -> Iterator[dict[str, int | str]]:
    with path.open(encoding="utf-8") as file:
        yield from (json.loads(line) for line in file)
