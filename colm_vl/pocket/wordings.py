"""Other wordings of the questions of the pocket world: six of each kind for training, two that are only measured."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Literal

from colm_vl._toml import read_toml

Use = Literal["training", "held out"]


@dataclass(frozen=True, slots=True)
class _Wordings:
    asked: re.Pattern[str]
    others: Mapping[Use, Sequence[str]]


def reworded(question: str, rng: Random, use: Use = "training") -> str:
    """The question in other words. Raises `ValueError` if it is not a question of the world."""
    for wordings in _wordings():
        if found := wordings.asked.fullmatch(question):
            return rng.choice(wordings.others[use]).format(**found.groupdict())
    raise ValueError(f"{question!r} is not a question of the pocket world")


@cache
def _wordings() -> Sequence[_Wordings]:
    tables = read_toml(Path(__file__).with_suffix(".toml"))["question"]
    return [
        _Wordings(re.compile(table["asked"]), {"training": table["training"], "held out": table["held_out"]})
        for table in tables
    ]
