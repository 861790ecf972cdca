"""What the members are trained on beside the world: its questions in other words, easy-VQA, and what they do not know.

`scene` takes the domains of the world and two more: `easy_vqa` (the train split of the package easy-vqa, MIT licence)
and `outside`. The scenes of keys that begin with "validation" are in no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from random import Random

from PIL import Image

from colm_vl.extras import require
from colm_vl.pocket import outside, world
from colm_vl.pocket.drawing import SIDE
from colm_vl.pocket.outside import OUTSIDE
from colm_vl.pocket.scenes import DOMAINS, YES_NO, Scene, SceneQuestion
from colm_vl.pocket.wordings import reworded

EASY = "easy_vqa"
ALL = (*DOMAINS, EASY, OUTSIDE)
SHARES: Mapping[str, float] = {EASY: 0.15, OUTSIDE: 0.1}
"""The share of packs in every stage that are not of the world."""
REWORDED = 0.5
"""The share of questions of the world that are asked in other words."""
EASY_HELD_OUT = 400
"""The number of pictures of the train split, at its end, of which only held-out questions are made."""
_COLOURS = frozenset({"black", "blue", "brown", "gray", "green", "red", "teal", "yellow"})
_SHAPES = frozenset({"circle", "rectangle", "triangle"})


def domain(rng: Random, weights: Mapping[str, float]) -> str:
    """A random domain: one of `weights`, or one that is not of the world."""
    drawn = rng.random()
    for name, share in SHARES.items():
        if drawn < share:
            return name
        drawn -= share
    return rng.choices(tuple(weights), tuple(weights.values()))[0]


def scene(key: str, name: str) -> Scene:
    """The scene with the seed `key`."""
    if name == OUTSIDE:
        return outside.scene(key)
    if name == EASY:
        return _easy_scene(key)
    drawn, rng = world.scene(key, name), Random(f"{key}/wording")
    asked = tuple(
        replace(one, question=reworded(one.question, rng)) if rng.random() < REWORDED else one
        for one in drawn.questions
    )
    return replace(drawn, questions=asked)


@dataclass(frozen=True, slots=True)
class _Picture:
    path: str
    questions: tuple[tuple[str, str], ...]


def _easy_scene(key: str) -> Scene:
    pictures = _easy_pictures()
    some = pictures[-EASY_HELD_OUT:] if key.startswith("validation") else pictures[:-EASY_HELD_OUT]
    chosen = Random(f"{key}/{EASY}").choice(some)
    with Image.open(chosen.path) as file:
        # As the members' processors resize it.
        drawn = file.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    questions = tuple(
        SceneQuestion(_kind(answer), question[:1].upper() + question[1:], answer)
        for question, answer in chosen.questions
    )
    return Scene(EASY, (drawn,), _caption(chosen), questions)


@cache
def _easy_pictures() -> tuple[_Picture, ...]:
    package = require("easy_vqa", "easy-vqa")
    paths = package.get_train_image_paths()
    asked: dict[int, list[tuple[str, str]]] = {number: [] for number in paths}
    for question, answer, number in zip(*package.get_train_questions(), strict=True):
        asked[number].append((question, answer))
    return tuple(_Picture(str(paths[number]), tuple(asked[number])) for number in sorted(paths) if asked[number])


def _kind(answer: str) -> str:
    if answer in YES_NO:
        return f"easy {answer}"
    return "easy colour" if answer in _COLOURS else "easy shape"


def _caption(picture: _Picture) -> str:
    """The colour and the shape of the one object, as far as the questions and answers of the picture tell them."""
    words: set[str] = set()
    for question, answer in picture.questions:
        named = set(question.rstrip("?").split())
        holds = (answer == "yes") != bool(named & {"no", "not"})
        if answer not in YES_NO or holds:
            words |= {answer} | named
    said = [*sorted(words & _COLOURS), *sorted(words & _SHAPES)]
    return " ".join(said) or "one shape"
