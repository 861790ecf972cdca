"""What an evaluation is about: items of a benchmark, replies, how each was read, and the figures that follow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal

Kind = Literal["choice", "open", "yes_no", "written"]
"""`written` is an answer of any length that only a judge can score."""

UNREAD = "unread"
DRAWN = "drawn"


class Rule(StrEnum):
    """How replies are read.

    `official`: the benchmark's own rules, oddities and seeded draws included. `strict`: the same reader, but what it
    cannot read is wrong. `lenient`: a better reader, and the official one where that finds nothing; unread is wrong.
    `llava`: the variant of ScienceQA's rule that LLaVA's authors use, common in papers.
    """

    OFFICIAL = "official"
    STRICT = "strict"
    LENIENT = "lenient"
    LLAVA = "llava"


@dataclass(frozen=True, slots=True)
class Item:
    """One question of a benchmark, with its answer.

    `gold` holds letters for a choice, else every accepted text. `pictures` are unopened: the bytes of a file, or its
    path. `groups` says under which figures it counts (`{"subject": "Art"}`). Items that share a `unit` count together
    where a benchmark says so: the rotations of one question, the two questions about one picture; `unit_size` is how
    many they are, where all have to be right. `turns` are what is asked next, in a conversation.
    """

    id: str
    question: str
    gold: tuple[str, ...]
    kind: Kind = "choice"
    options: tuple[str, ...] = ()
    pictures: tuple[bytes | Path, ...] = field(default=(), repr=False)
    groups: Mapping[str, str] = field(default_factory=dict)
    unit: str = ""
    unit_size: int = 1
    turns: tuple[str, ...] = ()

    @property
    def letters(self) -> tuple[str, ...]:
        return letters(len(self.options))


def letters(count: int) -> tuple[str, ...]:
    """The first `count` capitals."""
    return tuple(chr(ord("A") + index) for index in range(count))


@dataclass(frozen=True, slots=True)
class Reply:
    """What was answered to an item.

    `options` come with the reply in some published layouts whose gold has none. `stored_draw` is the letter that the
    run's authors drew at the time, where they kept it; "" if they kept that they drew none. `settled`: not a model's
    words, but the answer that our protocol has read from them. `column` is the one of the file that it stood in.
    """

    text: str
    options: tuple[str, ...] = ()
    stored_draw: str | None = None
    settled: bool = False
    column: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read from a reply and how; `how` is `unread` where nothing was.

    `alternatives` are the predictions of an open reply, any of which may be right: lower-case texts and numbers.
    """

    value: str
    how: str
    alternatives: tuple[str | float, ...] = ()


NOTHING = Reading("", UNREAD)


@dataclass(frozen=True, slots=True)
class Score:
    id: str
    right: bool
    value: str
    how: str


@dataclass(frozen=True, slots=True)
class Figure:
    """`right` of `asked`, under a name. `points` is the benchmark's own figure where that is no share (MME's sums)."""

    name: str
    group: str
    right: int
    asked: int
    points: float | None = None

    @property
    def accuracy(self) -> float:
        return self.right / self.asked if self.asked else 0.0


@dataclass(frozen=True, slots=True)
class Table:
    """All figures of one set of replies under one rule.

    `missing` are the ids that nobody answered, `reply_column` where in the file the replies stood, and `notes` what one
    must know to compare the figures with others.
    """

    benchmark: str
    rule: Rule
    figures: tuple[Figure, ...]
    scores: tuple[Score, ...]
    missing: tuple[str, ...] = ()
    reply_column: str = ""
    notes: tuple[str, ...] = ()

    @property
    def overall(self) -> Figure:
        return next(figure for figure in self.figures if figure.group == "overall")

    @property
    def coverage(self) -> float:
        total = len(self.scores) + len(self.missing)
        return len(self.scores) / total if total else 0.0

    @property
    def read(self) -> Mapping[str, int]:
        """How many replies were read how, most common first."""
        return dict(Counter(score.how for score in self.scores).most_common())


def share(name: str, group: str, scores: Sequence[Score]) -> Figure:
    """The micro-average over `scores`."""
    return Figure(name, group, sum(score.right for score in scores), len(scores))
