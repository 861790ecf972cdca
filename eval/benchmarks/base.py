"""The base class of benchmarks: where items come from, how they are asked, how replies are parsed and scored."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Literal

from colm_vl.answers import correct_choice
from colm_vl.batch.questions import Row as AskedRow
from colm_vl.errors import ImageError, InputError
from colm_vl.types import Query
from processors.images import Image

from ..dataset import Row, Source, images_in, options_in
from ..scoring import lenient
from ..types import (
    NOTHING,
    UNPARSED,
    Item,
    Metric,
    ParsedAnswer,
    ParsedReply,
    Rule,
    Score,
    letters,
    micro_average,
)

COMMON_RULES = (Rule.OFFICIAL, Rule.STRICT, Rule.LENIENT)
SEPARATOR = ", "
"""Between the values of a group that can have several."""


class Benchmark(ABC):
    """One benchmark.

    `official` parses a reply by the benchmark's own rules. `draw` makes the random choices that some official scripts
    make for replies that they cannot parse. Rule `strict` is `official` without `draw`.
    """

    name: str
    title: str
    modality: ClassVar[Literal["vision", "text"]] = "vision"
    hub: ClassVar[str] = ""
    config: ClassVar[str] = ""
    splits: ClassVar[tuple[str, ...]] = ("test",)
    split_names: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType({"validation": ("val",)})
    """Other names under which a split is published."""
    requires_image: ClassVar[bool] = True
    """Whether every question has an image."""
    subjects: ClassVar[tuple[str, ...]] = ()
    multiple: ClassVar[frozenset[str]] = frozenset()
    """Groups of which an item can have several values, written with commas between them."""
    rules: ClassVar[tuple[Rule, ...]] = COMMON_RULES
    scored: ClassVar[bool] = True
    note: ClassVar[str] = ""

    @abstractmethod
    def load(self, source: Source) -> Iterator[Item]:
        """Yield the items of the requested subjects, in the benchmark's order."""

    def gold(self, path: Path, split: str) -> list[Item]:
        """The items with their answers and without images, for scoring existing replies."""
        return list(self.load(replace(self.source(path, split), images=False)))

    def source(self, path: Path | None, split: str, subjects: Sequence[str] = ()) -> Source:
        """Raises `InputError` for an unknown split or subject."""
        split = next(
            (name for name, others in self.split_names.items() if name in self.splits and split in others), split
        )
        known_or_error("split", [split], self.splits)
        known_or_error("subject", subjects, self.subjects)
        configs = (self.config,) if self.config else ()
        return Source(path, split, self.hub, configs, tuple(subjects), also=self.split_names.get(split, ()))

    def instruction(self, item: Item) -> str:
        """Text added to the question. The prompts already say which form the reply must have."""
        return ""

    def format_answer(self, item: Item, answer: str) -> str:
        """The form in which the benchmark's script looks for an answer, given the answer that colm-vl extracted: a
        letter for a choice, else text. The script does not get captions and reasoning."""
        return answer

    def shown_options(self, item: Item) -> tuple[str, ...]:
        """The choices as the models see them."""
        return tuple(option.strip() or "(empty)" for option in item.options)

    def query(self, item: Item) -> Query:
        if self.requires_image and not item.images:
            raise InputError(
                f"question {item.id} has no image, and every question of {self.title} has one",
                hint="give the file as it was published, with its image column",
            )
        question = "\n".join(part for part in (item.question, self.instruction(item)) if part)
        choices = self.shown_options(item)
        return Query(
            question=question,
            images=tuple(Image.open(image) for image in item.images),
            choices=choices if len(choices) > 1 else (),  # MMMU-Pro has questions with a single option
            id=item.id,
            metadata=dict(item.groups),
        )

    def questions(self, source: Source, ids: Collection[str]) -> Iterator[Query | AskedRow]:
        """The questions of these items, for a batch. Raises `InputError` for a picture that cannot be opened."""
        for item in self.load(source):
            if item.id not in ids:
                continue
            try:
                yield self.query(item)
            except ImageError as error:
                raise InputError(f"question {item.id}: {error}", hint=error.hint) from None

    @abstractmethod
    def official(self, item: Item, reply: str) -> ParsedAnswer:
        """Parse a reply by the benchmark's own rules; `NOTHING` if they find no answer."""

    def lenient(self, item: Item, reply: str) -> ParsedAnswer:
        """Parse a reply tolerantly, and by the official rules if that finds nothing."""
        parsed = lenient.parse_choice(reply, item.options) if item.kind == "choice" else NOTHING
        return self.official(item, reply) if parsed.how == UNPARSED else parsed

    def parse(self, item: Item, reply: str, rule: Rule) -> ParsedAnswer:
        return self.lenient(item, reply) if rule is Rule.LENIENT else self.official(item, reply)

    def is_correct(self, item: Item, parsed: ParsedAnswer) -> bool:
        return parsed.value in item.gold

    def grade(self, item: Item, parsed: ParsedAnswer) -> float:
        """From 0 to 1, for benchmarks that give partial credit; by default 1 if the answer is correct, else 0."""
        return float(self.is_correct(item, parsed))

    def score(self, item: Item, parsed: ParsedAnswer) -> Score:
        grade = 0.0 if parsed.how == UNPARSED else self.grade(item, parsed)
        return Score(item.id, grade, parsed.value, parsed.how)

    def scores(self, answers: Iterable[ParsedReply]) -> list[Score | None]:
        """The score of each answer, in their order; None for one that could not be graded."""
        return [self.score(answer.item, answer.parsed) for answer in answers]

    def order(self, items: Sequence[Item]) -> list[Item]:
        """The order in which the official script goes through the items and draws."""
        return list(items)

    def draw(self, unparsed: Sequence[Item], parsed_answers: Mapping[str, ParsedAnswer]) -> list[str]:
        """A random letter for each item whose reply `official` could not parse; [] if the benchmark counts these as
        wrong. `parsed_answers` holds the results of `official` by id, since some scripts draw for others too."""
        return []

    @property
    def draws(self) -> bool:
        """Whether the benchmark's script makes random choices."""
        return type(self).draw is not Benchmark.draw

    def notes(self, items: Sequence[Item]) -> list[str]:
        """What to know before comparing metrics of these items with published ones."""
        return []

    def units(self, items: Sequence[Item], scores: Sequence[Score]) -> Mapping[str, float]:
        """The units of paired comparisons and their grades: single items, unless the benchmark combines several into
        one question."""
        return {score.id: score.grade for score in scores}

    def metrics(self, items: Sequence[Item], scores: Sequence[Score]) -> list[Metric]:
        """The metrics that the benchmark reports, `overall` first; by default one for each group of the items."""
        return [micro_average("Overall", "overall", scores), *by_groups(items, scores, self.multiple)]


def seeded_draws(unparsed: Sequence[Item], seed: int) -> list[str]:
    """`random.choice` of each item's letters in order, from one generator with this seed."""
    generator = random.Random(seed)
    return [generator.choice(item.letters) for item in unparsed]


def first_images(row: Row, columns: Sequence[str], *, folder: Path | None = None) -> tuple[bytes | Path, ...]:
    """The images in the first of `columns` that has any. VLMEvalKit's TSV may hold an image and, in another column, the
    name of the file that its toolkit unpacks it to."""
    return next((found for name in columns if (found := images_in(row, (name,), folder=folder))), ())


def by_groups(items: Sequence[Item], scores: Sequence[Score], multiple: Collection[str] = ()) -> list[Metric]:
    """One metric for every value of every group, in order of appearance. An item counts for each of its values of the
    groups in `multiple`."""
    found: dict[tuple[str, str], list[Score]] = {}
    for item, score in zip(items, scores, strict=True):
        for group, value in item.groups.items():
            for name in value.split(SEPARATOR) if group in multiple else (value,):
                found.setdefault((group, name), []).append(score)
    groups = list(dict.fromkeys(group for group, _ in found))
    ordered = sorted(found, key=lambda key: groups.index(key[0]))
    return [micro_average(name, group, found[group, name]) for group, name in ordered]


def known_or_error(what: str, names: Sequence[str], known: Sequence[str]) -> None:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError(
            f"unknown {what} {', '.join(map(repr, unknown))}",
            hint=f"one of: {', '.join(known)}" if known else f"this benchmark has no {what}s to choose from",
        )


def letter_of(answer: object, options: Sequence[str], *, where: str) -> str:
    """The gold letter, from a letter, an index (0 is A) or an option's text."""
    place = correct_choice(answer, options)
    if place is None:
        raise InputError(
            f"{where}: answer {str(answer).strip()!r} is not one of its {len(options)} options",
            hint="expected a letter, an index from 0, or the option's text",
        )
    return letters(len(options))[place]


__all__ = [
    "COMMON_RULES",
    "SEPARATOR",
    "Benchmark",
    "by_groups",
    "first_images",
    "known_or_error",
    "letter_of",
    "options_in",
    "seeded_draws",
]
