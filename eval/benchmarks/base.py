"""What a benchmark is: where its items come from, how they are asked, how replies are read and added up."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Literal

from colm_vl.errors import InputError
from colm_vl.types import Query
from processors.images import Image

from ..data import Row, Source, options_in, pictures_in
from ..items import NOTHING, UNREAD, Figure, Item, Reading, Rule, Score, letters, share
from ..scoring import lenient

COMMON_RULES = (Rule.OFFICIAL, Rule.STRICT, Rule.LENIENT)


class Benchmark(ABC):
    """One benchmark; a sub-class for each, in a file of its own.

    `official` reads without drawing; `draw` adds the draws of benchmarks that draw. So `strict` is `official` without
    its draws, by construction.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    modality: ClassVar[Literal["vision", "text"]] = "vision"
    hub: ClassVar[str] = ""
    config: ClassVar[str] = ""
    splits: ClassVar[tuple[str, ...]] = ("test",)
    split_names: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType({"validation": ("val",)})
    """Other names under which a split is published."""
    pictured: ClassVar[bool] = True
    """Whether every question has a picture."""
    subjects: ClassVar[tuple[str, ...]] = ()
    rules: ClassVar[tuple[Rule, ...]] = COMMON_RULES
    scored: ClassVar[bool] = True
    note: ClassVar[str] = ""

    @abstractmethod
    def load(self, source: Source) -> Iterator[Item]:
        """The items, in the order of the benchmark, of the subjects asked for."""

    def gold(self, path: Path, split: str) -> list[Item]:
        """The items with their answers, for scoring replies that were made elsewhere: no pictures are read."""
        return list(self.load(replace(self.source(path, split), pictures=False)))

    def source(self, path: Path | None, split: str, subjects: Sequence[str] = ()) -> Source:
        """Raises `InputError` for a split or a subject that the benchmark does not have."""
        split = next(
            (name for name, others in self.split_names.items() if name in self.splits and split in others), split
        )
        known_or_error("split", [split], self.splits)
        known_or_error("subject", subjects, self.subjects)
        configs = (self.config,) if self.config else ()
        return Source(path, split, self.hub, configs, tuple(subjects), also=self.split_names.get(split, ()))

    def instruction(self, item: Item) -> str:
        """What is added to the question, beside the form of the reply that the prompts ask for."""
        return ""

    def phrase(self, item: Item, answer: str) -> str:
        """An answer that our protocol has read already, in the words in which the benchmark's own script looks for it:
        a letter for a choice, else the text. Captions and reasons are not handed to that script."""
        return answer

    def shown_options(self, item: Item) -> tuple[str, ...]:
        """The choices as the models see them."""
        return tuple(option.strip() or "(empty)" for option in item.options)

    def query(self, item: Item) -> Query:
        if self.pictured and not item.pictures:
            raise InputError(
                f"question {item.id} has no picture, and every question of {self.title} has one",
                hint="give the file as it was published, with its column of pictures",
            )
        question = "\n".join(part for part in (item.question, self.instruction(item)) if part)
        choices = self.shown_options(item)
        return Query(
            question=question,
            images=tuple(Image.open(picture) for picture in item.pictures),
            choices=choices if len(choices) > 1 else (),  # one option is no choice: MMMU-Pro has such questions
            id=item.id,
            metadata=dict(item.groups),
        )

    @abstractmethod
    def official(self, item: Item, reply: str) -> Reading:
        """The benchmark's own reader; what it cannot read is `unread`."""

    def lenient(self, item: Item, reply: str) -> Reading:
        """Where the better reader finds nothing, the official reading counts, oddities included."""
        reading = lenient.read_choice(reply, item.options) if item.kind == "choice" else NOTHING
        return self.official(item, reply) if reading.how == UNREAD else reading

    def read(self, item: Item, reply: str, rule: Rule) -> Reading:
        return self.lenient(item, reply) if rule is Rule.LENIENT else self.official(item, reply)

    def right(self, item: Item, reading: Reading) -> bool:
        return reading.value in item.gold

    def order(self, items: Sequence[Item]) -> list[Item]:
        """The order of evaluation, in which draws are made."""
        return list(items)

    def draw(self, unread: Sequence[Item], readings: Mapping[str, Reading]) -> list[str]:
        """A letter for each item that `official` could not read, or [] where the benchmark counts those as wrong.

        `readings` are what `official` made of every reply, by id: a script may draw for more than it could not read.
        """
        return []

    @property
    def draws(self) -> bool:
        """Whether the benchmark's script draws what it cannot read."""
        return type(self).draw is not Benchmark.draw

    def notes(self, items: Sequence[Item]) -> list[str]:
        """What one must know of these items to compare the figures with published ones."""
        return []

    def units(self, items: Sequence[Item], scores: Sequence[Score]) -> Mapping[str, bool]:
        """What counts as one in comparisons, and whether it is right: items, unless several make one question."""
        return {score.id: score.right for score in scores}

    def figures(self, items: Sequence[Item], scores: Sequence[Score]) -> list[Figure]:
        """The figures that the benchmark reports, `overall` first; here by every group that the items name."""
        return [share("Overall", "overall", scores), *by_groups(items, scores)]


def seeded_draws(unread: Sequence[Item], seed: int) -> list[str]:
    """`random.choice` over each item's letters, one after the other, from Python's generator with this seed."""
    generator = random.Random(seed)
    return [generator.choice(item.letters) for item in unread]


def first_pictures(row: Row, columns: Sequence[str], *, folder: Path | None = None) -> tuple[bytes | Path, ...]:
    """The pictures of the first of `columns` that has any: VLMEvalKit's TSV may name, beside a picture, the file into
    which its toolkit unpacks it."""
    return next((found for name in columns if (found := pictures_in(row, (name,), folder=folder))), ())


def by_groups(items: Sequence[Item], scores: Sequence[Score]) -> list[Figure]:
    """A figure for every value of every group, in the order in which they appear."""
    found: dict[tuple[str, str], list[Score]] = {}
    for item, score in zip(items, scores, strict=True):
        for group, name in item.groups.items():
            found.setdefault((group, name), []).append(score)
    groups = list(dict.fromkeys(group for group, _ in found))
    ordered = sorted(found, key=lambda key: groups.index(key[0]))
    return [share(name, group, found[group, name]) for group, name in ordered]


def known_or_error(what: str, names: Sequence[str], known: Sequence[str]) -> None:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError(
            f"unknown {what} {', '.join(map(repr, unknown))}",
            hint=f"one of: {', '.join(known)}" if known else f"this benchmark has no {what}s to choose from",
        )


def letter_of(answer: object, options: Sequence[str], *, where: str) -> str:
    """The gold letter, from a letter, an index (0 is A) or an option's text."""
    known = letters(len(options))
    text = str(answer).strip()
    if text.upper() in known:
        return text.upper()
    if text.isdecimal() and int(text) < len(options):
        return known[int(text)]
    if text in options:
        return known[list(options).index(text)]
    raise InputError(
        f"{where}: answer {text!r} is none of its {len(options)} options", hint="a letter, an index from 0, or the text"
    )


__all__ = [
    "COMMON_RULES",
    "Benchmark",
    "by_groups",
    "first_pictures",
    "known_or_error",
    "letter_of",
    "options_in",
    "seeded_draws",
]
