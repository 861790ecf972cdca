"""Questions of your own with gold answers: reads the files of `colm-vl batch`, and grades predictions for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from colm_vl.batch.questions import Questions, Row
from colm_vl.errors import InputError

from .benchmarks.base import letter_of
from .metrics.base import Gold
from .metrics.registry import default, find
from .scoring.scorer import check_ids
from .statistics import Interval, mean_interval
from .types import Reply

_ANSWER = "a text, a number, or a list of accepted ones"


@dataclass(frozen=True, slots=True)
class LabelledQuestion:
    """A question with its gold answer, or None if it has none. `where` names file and line."""

    id: str
    where: str
    gold: Gold | None
    groups: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Labelled:
    """The questions of a file. `problems` has one line for each row that cannot be used."""

    questions: tuple[LabelledQuestion, ...]
    problems: tuple[str, ...]

    @property
    def unscored(self) -> int:
        """How many questions have no gold answer."""
        return sum(question.gold is None for question in self.questions)

    def metrics(self, metric: str = "") -> Mapping[str, int]:
        """How many questions each metric grades."""
        return Counter(metric or default(question.gold) for question in self.questions if question.gold)

    def groups(self) -> Mapping[str, int]:
        """How many different values each group column has."""
        values = {(group, name) for question in self.questions for group, name in question.groups.items()}
        return Counter(group for group, _ in values)


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean grade of the questions of one group; `group` is "overall" for all of them."""

    name: str
    group: str
    mean: float
    total: int
    interval: Interval


@dataclass(frozen=True, slots=True)
class Graded:
    """The grades of predictions. `metrics` counts the questions by metric; `unscored` have no gold answer, `missing` no
    prediction."""

    means: tuple[Mean, ...]
    grades: Mapping[str, float]
    metrics: Mapping[str, int]
    unscored: int
    missing: tuple[str, ...]


def read_labelled(
    path: Path, answer_column: str = "answer", group_columns: Sequence[str] = (), *, pictures: bool = False
) -> Labelled:
    """With `pictures`, a picture file that does not exist is a problem, too.

    Raises `InputError` for a file that cannot be read, and for a group column that no row has.
    """
    questions: list[LabelledQuestion] = []
    problems: list[str] = []
    for row in Questions(path).checked():
        try:
            if row.problem:
                raise InputError(f"{row.where}: {row.problem}", hint=row.hint)
            if pictures:
                _check_pictures(row)
            gold = _gold(row, answer_column)
        except InputError as error:
            problems.append(f"{error} ({error.hint})" if error.hint else str(error))
        else:
            groups = {name: str(row.metadata[name]) for name in group_columns if row.metadata.get(name) is not None}
            questions.append(LabelledQuestion(row.id, row.where, gold, groups))
    found = {name for question in questions for name in question.groups}
    absent = [name for name in group_columns if name not in found]
    if absent and questions:
        raise InputError(f"{path.name}: no column is called {absent[0]!r}", hint="correct --group-column")
    return Labelled(tuple(questions), tuple(problems))


def grade(labelled: Labelled, replies: Mapping[str, Reply], metric: str = "", *, partial: bool = False) -> Graded:
    """Grade the predictions by `metric`, or by the default metric of each question.

    Raises `InputError` for predictions of unknown questions, and for missing ones unless `partial`.
    """
    ids = [question.id for question in labelled.questions]
    missing = check_ids(ids, replies, [one.id for one in labelled.questions if one.gold], partial)
    grades: dict[str, float] = {}
    metrics: Counter[str] = Counter()
    graded: list[LabelledQuestion] = []
    for question in labelled.questions:
        if question.gold is None or question.id not in replies:
            continue
        name = metric or default(question.gold)
        grades[question.id] = find(name).grade(replies[question.id].text, question.gold)
        metrics[name] += 1
        graded.append(question)
    if not graded:
        raise InputError("no question has a gold answer", hint="name their column with --answer-column")
    return Graded(tuple(_means(graded, grades)), grades, dict(metrics), labelled.unscored, missing)


def _means(questions: Sequence[LabelledQuestion], grades: Mapping[str, float]) -> Iterator[Mean]:
    by_group: dict[tuple[str, str], list[float]] = {}
    for question in questions:
        for key in (("overall", "Overall"), *question.groups.items()):
            by_group.setdefault(key, []).append(grades[question.id])
    columns = list(dict.fromkeys(group for group, _ in by_group))
    for group, name in sorted(by_group, key=lambda key: columns.index(key[0])):
        found = by_group[group, name]
        yield Mean(name, group, sum(found) / len(found), len(found), mean_interval(found))


def _check_pictures(row: Row) -> None:
    for picture in row.pictures:
        if not isinstance(picture, str) or picture.startswith("data:") or "://" in picture:
            continue
        if not Path(picture).is_file():
            raise InputError(
                f"{row.where}: no such picture: {picture}", hint="relative paths start at the folder of the file"
            )


def _gold(row: Row, column: str) -> Gold | None:
    value = row.metadata.get(column)
    if value in (None, "", []):
        return None
    accepted = value if isinstance(value, list) else [value]
    for one in accepted:
        if isinstance(one, bool) or not isinstance(one, str | int | float) or one == "":
            raise InputError(f"{row.where}: {column} is {_short(value)}", hint=f"expected {_ANSWER}")
    texts = tuple(map(str, accepted))
    if row.choices:
        texts = tuple(letter_of(text, row.choices, where=row.where) for text in texts)
    return Gold(texts, row.choices, number=all(isinstance(one, int | float) for one in accepted))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
