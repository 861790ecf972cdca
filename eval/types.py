"""The values that pass between the parts of an evaluation: items, replies, parsed answers, scores and metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal

from colm_vl.answers import choice_letters as letters

from .statistics import Interval, mean_interval

__all__ = [
    "CORRECT",
    "DRAWN",
    "NOTHING",
    "UNPARSED",
    "Item",
    "Kind",
    "Metric",
    "ParsedAnswer",
    "ParsedReply",
    "Reply",
    "Results",
    "Rule",
    "Score",
    "letters",
    "micro_average",
    "whole_reply",
]

Kind = Literal["choice", "open", "yes_no", "written"]
"""`written` is a free-form answer that only a judge model can score."""

CORRECT = 0.5
UNPARSED = "unparsed"
DRAWN = "drawn"


class Rule(StrEnum):
    """How replies are parsed and scored.

    `official`: the benchmark's own rules, with their oddities and seeded random choices. `strict`: the same parser, but
    a reply that it cannot parse is wrong. `lenient`: a more tolerant parser, then the official one where that finds
    nothing; unparsed is wrong. `llava`: the variant of ScienceQA's rule by LLaVA's authors, common in papers.
    """

    OFFICIAL = "official"
    STRICT = "strict"
    LENIENT = "lenient"
    LLAVA = "llava"


@dataclass(frozen=True, slots=True)
class Item:
    """One question of a benchmark, with its gold answer.

    `gold` holds the letter of a choice, else every accepted text; it is empty if the question is asked and not scored.
    `metric` names the metric that grades a question of your own. `images` are unopened: the bytes of a file, or its
    path. `groups` are the categories that it is reported under (`{"subject": "Art"}`). Items of the same `unit` are
    scored together where the benchmark does so: the rotations of one question, the two questions about one image;
    `unit_size` is how many there are, where all must be correct. `turns` are the following turns of a conversation.
    """

    id: str
    question: str
    gold: tuple[str, ...]
    kind: Kind = "choice"
    options: tuple[str, ...] = ()
    images: tuple[bytes | Path, ...] = field(default=(), repr=False)
    groups: Mapping[str, str] = field(default_factory=dict)
    unit: str = ""
    unit_size: int = 1
    turns: tuple[str, ...] = ()
    metric: str = ""

    @property
    def letters(self) -> tuple[str, ...]:
        return letters(len(self.options))


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply to one item.

    `options` come with the reply in some published formats whose gold file has none. `stored_draw` is the random choice
    that the authors of a file stored for this reply; "" if they stored that there was none. `settled`: the text is an
    answer that colm-vl extracted, not a model's own words. `column` is the column of the file that it was in.
    """

    text: str
    options: tuple[str, ...] = ()
    stored_draw: str | None = None
    settled: bool = False
    column: str = ""


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """The answer found in a reply, and how it was found; `how` is `UNPARSED` if none was.

    `alternatives` are the candidates in an open reply, lower-case texts and numbers, any of which may match.
    """

    value: str
    how: str
    alternatives: tuple[str | float, ...] = ()


NOTHING = ParsedAnswer("", UNPARSED)


@dataclass(frozen=True, slots=True)
class ParsedReply:
    """An item, and the answer that was found in a reply to it."""

    item: Item
    parsed: ParsedAnswer


def whole_reply(reply: str) -> ParsedAnswer:
    """The reply itself as the answer, for benchmarks that compare texts."""
    return ParsedAnswer(reply.strip(), "whole reply") if reply.strip() else NOTHING


@dataclass(frozen=True, slots=True)
class Score:
    """The grade of the reply to an item, from 0 to 1, and the answer that was found in it."""

    id: str
    grade: float
    value: str
    how: str

    @property
    def correct(self) -> bool:
        """Graded at least one half, for figures that only tell correct from wrong."""
        return self.grade >= CORRECT


@dataclass(frozen=True, slots=True)
class Metric:
    """The grades of one category. `points` is the benchmark's own score where that is not an accuracy (MME's sums)."""

    name: str
    group: str
    grades: tuple[float, ...]
    points: float | None = None

    @property
    def correct(self) -> float:
        """The sum of the grades, a whole number unless the benchmark gives partial credit."""
        return sum(self.grades)

    @property
    def total(self) -> int:
        return len(self.grades)

    @property
    def accuracy(self) -> float:
        """The mean grade."""
        return self.correct / self.total if self.total else 0.0

    @property
    def interval(self) -> Interval:
        return mean_interval(self.grades)


@dataclass(frozen=True, slots=True)
class Results:
    """The metrics and scores of one set of replies under one rule.

    `missing` are the ids of items without a reply, `unscored` is the number of items without a gold answer,
    `reply_column` the column of the file that held the replies, and `notes` say what to know before comparing these
    results with others.
    """

    benchmark: str
    rule: Rule
    metrics: tuple[Metric, ...]
    scores: tuple[Score, ...]
    missing: tuple[str, ...] = ()
    unscored: int = 0
    reply_column: str = ""
    notes: tuple[str, ...] = ()

    @property
    def overall(self) -> Metric:
        return next(metric for metric in self.metrics if metric.group == "overall")

    @property
    def coverage(self) -> float:
        total = len(self.scores) + len(self.missing)
        return len(self.scores) / total if total else 0.0

    @property
    def parsed_by(self) -> Mapping[str, int]:
        """How many answers were found in which way, the most common first."""
        return dict(Counter(score.how for score in self.scores).most_common())


def micro_average(name: str, group: str, scores: Sequence[Score]) -> Metric:
    return Metric(name, group, tuple(score.grade for score in scores))
