"""Questions of your own with gold answers, in the files of `colm-vl batch`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colm_vl.batch.questions import Questions, Row
from colm_vl.batch.readers import listed
from colm_vl.errors import ImageError, InputError
from processors.images import DEFAULT_MAX_PIXELS
from processors.sources import is_path, read

from .benchmarks.base import letter_of
from .metrics.base import Gold
from .metrics.registry import default, find
from .types import Item

_ANSWER = "a text, a number, or a list of accepted ones"


@dataclass(frozen=True, slots=True)
class Labelled:
    """The questions of a file, without pictures. `problems` has one line for each row that cannot be used."""

    items: tuple[Item, ...]
    problems: tuple[str, ...] = ()

    @property
    def unscored(self) -> int:
        """How many questions have no gold answer."""
        return sum(not item.gold for item in self.items)

    def groups(self) -> Mapping[str, int]:
        """How many different values each group column has."""
        values = {(group, name) for item in self.items for group, name in item.groups.items()}
        return Counter(group for group, _ in values)


def read_labelled(
    questions: Questions,
    *,
    answer_column: str = "answer",
    group_columns: Sequence[str] = (),
    metric: str = "",
    pictures: bool = False,
) -> Labelled:
    """Each question is graded by `metric`, or by the default metric for its gold answer.

    With `pictures`, a picture file that does not exist is a problem, too. Raises `InputError` for a file that cannot be
    read and for a group column that no row has, and `ConfigError` for an unknown metric.
    """
    if metric:
        find(metric)
    items: list[Item] = []
    problems: list[str] = []
    for row in questions.checked():
        try:
            if row.problem:
                raise InputError(f"{row.where}: {row.problem}", hint=row.hint)
            _check_question(row)
            if pictures:
                _check_pictures(row)
            items.append(_item(row, answer_column, group_columns, metric))
        except InputError as error:
            problems.append(f"{error} ({error.hint})" if error.hint else str(error))
    found = {name for item in items for name in item.groups}
    absent = [name for name in group_columns if name not in found]
    if absent and items:
        raise InputError(f"{questions.name}: no column is called {absent[0]!r}", hint="correct --group-column")
    return Labelled(tuple(items), tuple(problems))


def metric_counts(items: Sequence[Item]) -> str:
    """How many questions each metric grades, as text."""
    counts = Counter(item.metric for item in items if item.gold)
    return ", ".join(f"{name} ({count} questions)" for name, count in counts.items())


def _item(row: Row, answer_column: str, group_columns: Sequence[str], metric: str) -> Item:
    gold = _gold(row, answer_column)
    return Item(
        id=row.id,
        question=row.question,
        gold=gold.accepted if gold else (),
        kind="choice" if row.choices else "open",
        options=row.choices,
        groups={name: str(row.metadata[name]) for name in group_columns if row.metadata.get(name) is not None},
        metric=metric or (default(gold) if gold else ""),
    )


def _check_question(row: Row) -> None:
    try:
        row.query(())
    except InputError as error:
        raise InputError(f"{row.where}: {error}", hint=error.hint) from None


def _check_pictures(row: Row) -> None:
    for picture in row.pictures:
        if isinstance(picture, str) and picture[:5].lower() == "data:":
            _check_data_uri(picture, row.where)
        elif is_path(picture) and not Path(picture).is_file():
            raise InputError(
                f"{row.where}: no such picture: {picture}", hint="relative paths start at the folder of the file"
            )


def _check_data_uri(picture: str, where: str) -> None:
    try:
        read(picture, DEFAULT_MAX_PIXELS)
    except ImageError as error:
        raise InputError(f"{where}: {error}", hint=error.hint) from None


def _gold(row: Row, column: str) -> Gold | None:
    value = row.metadata.get(column)
    if value in (None, "", []):
        return None
    # A table has no lists, so they are written as text there: ["red", "crimson"].
    accepted = value if isinstance(value, list) else listed(value) if isinstance(value, str) else [value]
    for one in accepted:
        if isinstance(one, bool) or not isinstance(one, str | int | float) or one == "":
            raise InputError(f"{row.where}: {column} is {_short(value)}", hint=f"expected {_ANSWER}")
    if row.choices:
        texts = tuple(letter_of(one, row.choices, where=row.where) for one in accepted)
    else:
        texts = tuple(map(str, accepted))
    return Gold(texts, row.choices, number=all(isinstance(one, int | float) for one in accepted))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
