"""What a format is: it writes the answers of a strategy as another harness does, and reads that harness's files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from colm_vl.types import Trace, Usage

from ..types import Item, Results, Score


@dataclass(frozen=True, slots=True)
class Answered:
    """An item and the final answer to it, in the form that the benchmark's script looks for; "" if there is none.

    `score` is None for an item without a gold answer, or if the answer could not be graded.
    """

    position: int
    item: Item
    reply: str
    score: Score | None
    trace: Trace

    @property
    def prompt(self) -> str:
        """The question with its lettered options."""
        options = (f"{letter}. {text}" for letter, text in zip(self.item.letters, self.item.options, strict=True))
        return "\n".join((self.item.question, *options))


@dataclass(frozen=True, slots=True)
class StrategyAnswers:
    """The answers of one strategy of a run, in the order of its items.

    `answers` are read from the run each time, one by one. `ids` are those of the answered items, `usage` is the sum of
    theirs, `finished` is when the run last got an answer.
    """

    benchmark: str
    split: str
    strategy: str
    finished: datetime
    ids: tuple[str, ...]
    usage: Usage
    results: Results
    answers: Iterable[Answered]


@dataclass(frozen=True, slots=True)
class Logged:
    """A reply in a file of another harness.

    `id` is that of the question, or "" if the file has none. `position` is its place in the data set, from 0, if the
    harness numbers questions. `question` is the prompt or the question, `targets` are the gold answers in the file;
    both may be empty.
    """

    id: str
    position: int | None
    text: str
    question: str = ""
    targets: tuple[str, ...] = ()


class Format(ABC):
    """`note` describes it in one line, `source` is where the format is defined."""

    note: ClassVar[str]
    source: ClassVar[str]

    @abstractmethod
    def write(self, answers: StrategyAnswers, folder: Path) -> list[Path]:
        """Write the files of one strategy into a folder that exists, and return their paths."""

    @abstractmethod
    def recognizes(self, path: Path) -> bool:
        """Whether an existing file is of this format."""

    @abstractmethod
    def read(self, path: Path) -> Iterator[Logged]:
        """Raises `InputError` for a file of this format that cannot be used."""
