"""Agreement of a metric's grades with grades by people, as Cohen's kappa."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from colm_vl.batch.questions import Questions
from colm_vl.errors import InputError
from colm_vl.extras import require

from .metrics.judging import GRADES
from .statistics import Interval

_CATEGORIES = 10
"""Kappa is for categories. A metric with more different grades has a scale instead."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """`counts[i][j]` is the number of replies that people gave `grades[i]` and the metric `grades[j]`. `kappa` is None,
    and so is its 95 % interval, if all grades are the same."""

    grades: tuple[float, ...]
    counts: tuple[tuple[int, ...], ...]
    kappa: float | None
    interval: Interval | None

    @property
    def total(self) -> int:
        return sum(map(sum, self.counts))

    @property
    def same(self) -> int:
        return sum(row[place] for place, row in enumerate(self.counts))


def agreement(given: Mapping[str, float], by_people: Mapping[str, float]) -> Agreement:
    """Compare the grades of the replies that have both (Cohen 1960; interval: Fleiss, Cohen and Everitt 1969).

    Raises `InputError` if no reply has both, or if the grades are not categories.
    """
    pairs = Counter((by_people[key], grade) for key, grade in given.items() if key in by_people)
    grades = tuple(sorted({grade for pair in pairs for grade in pair}, reverse=True))
    if not pairs:
        raise InputError("no reply has a grade by people", hint="name their column with --label-column")
    if len(grades) > _CATEGORIES:
        raise InputError(
            f"agreement needs at most {_CATEGORIES} different grades, found {len(grades)}",
            hint="compare a metric that gives few, such as exact or judge",
        )
    counts = tuple(tuple(pairs[row, column] for column in grades) for row in grades)
    if len(grades) == 1:
        return Agreement(grades, counts, None, None)
    found = require("statsmodels.stats.inter_rater", "eval").cohens_kappa(counts)
    return Agreement(grades, counts, float(found.kappa), Interval(float(found.kappa_low), float(found.kappa_upp)))


def read_labels(questions: Questions, column: str) -> Mapping[str, float]:
    """The grades in a column, by the id of the question: numbers from 0 to 1, or correct, partly and incorrect.

    Raises `InputError` if no row has the column, and for the first value that is no grade.
    """
    labels: dict[str, float] = {}
    for row in questions.checked():
        if (value := row.metadata.get(column)) not in (None, ""):
            labels[row.id] = _label(value, f"{row.where}: {column}")
    if not labels:
        raise InputError(f"{questions.name}: no column is called {column!r}", hint="correct --label-column")
    return labels


def _label(value: Any, where: str) -> float:
    if isinstance(value, str) and value.strip().lower() in GRADES:
        return GRADES[value.strip().lower()]
    try:
        grade = float(value)
    except (TypeError, ValueError):
        grade = -1.0
    if not 0 <= grade <= 1:
        raise InputError(f"{where} is {value!r}", hint=f"expected a number from 0 to 1, or {', '.join(GRADES)}")
    return grade


def as_json(found: Agreement) -> Mapping[str, Any]:
    interval = found.interval
    return {
        "kappa": found.kappa,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "total": found.total,
        "same": found.same,
        "grades": list(found.grades),
        "counts": [list(row) for row in found.counts],
    }
