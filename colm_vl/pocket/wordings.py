"""Other wordings of questions: of those of the pocket world, six for training and two that are only measured; of those
of easy-VQA, two that are only measured."""

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
    """The question in other words. Raises `ValueError` if no such words of it are known."""
    for wordings in _wordings():
        if (found := wordings.asked.fullmatch(question)) and wordings.others[use]:
            return rng.choice(wordings.others[use]).format(**found.groupdict())
    raise ValueError(f"no other words for {question!r} are known")


@cache
def _wordings() -> Sequence[_Wordings]:
    tables = read_toml(Path(__file__).with_suffix(".toml"))
    return [
        _Wordings(re.compile(table["asked"]), {"training": table.get("training", []), "held out": table["held_out"]})
        for table in (*tables["question"], *tables["easy_vqa"])
    ]
