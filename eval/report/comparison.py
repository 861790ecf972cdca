"""Compares the answers of two runs, or of the strategies of one run, question by question, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from colm_vl.errors import InputError

from ..client_answers import reply_of
from ..own_questions import OwnQuestions
from ..predictions import read_predictions, strategies_in
from ..run_folder import EVALUATION, Evaluation, labels, read_evaluation
from ..scoring.scorer import score
from ..statistics import PairedComparison, compare_pairs
from ..types import Item, Reply, Rule, Score
from .summary import rank

_ALIKE = ("question", "options", "gold", "kind", "metric")
"""What two runs must have in common for a question of the same id."""


@dataclass(frozen=True, slots=True)
class AnswerSet:
    """The graded answers of one strategy, or of one file of predictions. `grades` are those of the benchmark's units,
    which may combine several questions; `scores` are those of the questions."""

    grades: Mapping[str, float]
    scores: Mapping[str, Score]

    @property
    def accuracy(self) -> float:
        return sum(self.grades.values()) / len(self.grades) if self.grades else 0.0


@dataclass(frozen=True, slots=True)
class Change:
    """A question whose two answers differ, and differ in their grade or are both wrong."""

    item: Item
    before: Score
    after: Score

    @property
    def gain(self) -> float:
        return self.after.grade - self.before.grade


@dataclass(frozen=True, slots=True)
class ComparedPair:
    """`comparison.one` compared with the baseline, `comparison.other`. `changes` are the losses, then the wins, then
    those with the same grade."""

    comparison: PairedComparison
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two runs answered differently, or the strategies of one.

    `runs` maps "a" and "b" to the names of the runs; empty if there is one. `answers` holds every set of answers by its
    name: a strategy, or with two runs `a.STRATEGY` and `b.STRATEGY`; `b` alone for predictions without strategies.
    `only` are the ids of the questions that only one of the two runs has, `other_pictures` those of the questions whose
    pictures differ, `unpaired` the sets that are in no pair.
    """

    title: str
    benchmark: str
    split: str
    rule: Rule
    runs: Mapping[str, str]
    answers: Mapping[str, AnswerSet]
    pairs: tuple[ComparedPair, ...]
    only: Mapping[str, tuple[str, ...]]
    other_pictures: tuple[str, ...]
    unpaired: tuple[str, ...]

    @property
    def partial_credit(self) -> bool:
        return any(grade not in (0, 1) for one in self.answers.values() for grade in one.grades.values())


def compare_run(folder: Path, strategies: Sequence[str] = (), rule: Rule = Rule.STRICT) -> Comparison:
    """Compare the strategies of one run, all of them or `strategies`, each with every simpler one.

    Raises `InputError` for a folder without a run, an unknown strategy, and for a benchmark that is not scored here.
    """
    evaluation = read_evaluation(folder)
    answers = _of_run(evaluation, rule).answers
    unknown = [name for name in strategies if name not in answers]
    if unknown:
        raise InputError(f"{folder}: no strategy {unknown[0]!r}", hint=f"one of: {', '.join(answers)}")
    chosen = [name for name in answers if name in strategies or not strategies]
    pairs = [(chosen[later], chosen[earlier]) for later in range(len(chosen)) for earlier in range(later)]
    return _comparison(evaluation, rule, {}, answers, pairs, {})


def compare_runs(
    first: Path, second: Path, strategies: Sequence[str] = (), rule: Rule = Rule.STRICT, *, reply_column: str = ""
) -> Comparison:
    """Compare the second run with the first, strategy by strategy, on the questions that both have.

    One of the two may be predictions in any format of `read_predictions`; they are compared with every strategy of the
    run. `reply_column` is the column of their replies. `strategies` chooses; "vote=colm" compares the second run's colm
    with the first run's vote.

    Raises `InputError` for folders without a run, for different benchmarks, questions or gold answers, and for
    strategies that are unknown or not in both runs.
    """
    paths = {"a": first, "b": second}
    names = dict(zip(paths, labels([first, second]), strict=True))
    runs = {letter: read_evaluation(path) for letter, path in paths.items() if (path / EVALUATION).exists()}
    base = next(iter(runs.values()), None) or read_evaluation(first)
    _check_benchmarks(list(runs.values()))
    a, b = (
        _of_run(runs[letter], rule) if letter in runs else _of_predictions(path, base, rule, reply_column)
        for letter, path in paths.items()
    )
    _check_items(a.items, b.items)
    pairs = _pairs(a, b, strategies)
    answers = {_name("a", one): answer for one, answer in a.answers.items()}
    answers |= {_name("b", one): answer for one, answer in b.answers.items()}
    only = {
        "a": tuple(key for key in a.items if key not in b.items),
        "b": tuple(key for key in b.items if key not in a.items),
    }
    other_pictures = tuple(key for key, one in a.pictures.items() if one != b.pictures.get(key, one))
    return _comparison(base, rule, names, answers, pairs, only, other_pictures)


@dataclass(frozen=True, slots=True)
class _Answered:
    """The answers of one run by strategy, the questions it has, and the digests of their pictures, as far as they are
    known. Questions of predictions that the run beside them does not have are None."""

    items: Mapping[str, Item | None]
    answers: Mapping[str, AnswerSet]
    pictures: Mapping[str, tuple[str, ...]]


def _of_run(evaluation: Evaluation, rule: Rule) -> _Answered:
    answers: dict[str, AnswerSet] = {}
    pictures: dict[str, tuple[str, ...]] = {}
    for name in sorted(evaluation.traces, key=rank):
        replies: dict[str, Reply] = {}
        for trace in evaluation.traces[name]:
            replies[trace.id] = reply_of(trace)
            if trace.images:
                pictures[trace.id] = tuple(image.digest for image in trace.images)
        answers[name] = _graded(evaluation, replies, rule)
    return _Answered(evaluation.items, answers, pictures)


def _of_predictions(path: Path, base: Evaluation, rule: Rule, column: str) -> _Answered:
    items = list(base.items.values())
    replies = {name: read_predictions(path, name, column=column, items=items) for name in strategies_in(path)}
    ids = dict.fromkeys(key for found in replies.values() for key in found)
    if not any(key in base.items for key in ids):
        raise _nothing_shared(next(iter(ids)))
    answers = {
        name: _graded(base, {key: reply for key, reply in found.items() if key in base.items}, rule)
        for name, found in replies.items()
    }
    return _Answered({key: base.items.get(key) for key in ids}, answers, {})


def _graded(evaluation: Evaluation, replies: Mapping[str, Reply], rule: Rule) -> AnswerSet:
    benchmark, items = evaluation.benchmark, list(evaluation.items.values())
    scores = {one.id: one for one in score(benchmark, items, replies, rule, partial=True).scores}
    answered = [item for item in items if item.id in scores]
    return AnswerSet(benchmark.units(answered, [scores[item.id] for item in answered]), scores)


def _check_benchmarks(runs: Sequence[Evaluation]) -> None:
    """Files of own questions may have different names: their questions are compared."""
    if all(isinstance(run.benchmark, OwnQuestions) for run in runs):
        return
    if len({(run.benchmark.name, run.split) for run in runs}) > 1:
        sources = " and ".join(f"{run.label} of {_source(run)}" for run in runs)
        raise InputError(f"the runs are of different benchmarks: {sources}", hint="give two runs of one benchmark")


def _source(evaluation: Evaluation) -> str:
    return repr(evaluation.benchmark.name) + (f" ({evaluation.split})" if evaluation.split else "")


def _check_items(a: Mapping[str, Item | None], b: Mapping[str, Item | None]) -> None:
    """Raises `InputError` if no question is in both, or if two of the same id are different questions."""
    shared = [(one, other) for key, one in a.items() if one and (other := b.get(key))]
    if not shared:
        raise _nothing_shared(next(iter(b)))
    different = [(one, other, name) for one, other in shared if (name := _difference(one, other))]
    if different:
        one, other, name = different[0]
        raise InputError(
            f"{len(different)} of {len(shared)} questions with the same id are not the same, the first: {one.id!r}: "
            f"{name} is {_short(getattr(one, name))} in a, {_short(getattr(other, name))} in b",
            hint="run both with the same --metric; finished answers are not asked again"
            if name == "metric"
            else "give runs of the same questions",
        )


def _difference(one: Item, other: Item) -> str:
    return next((name for name in _ALIKE if getattr(one, name) != getattr(other, name)), "")


def _nothing_shared(key: str) -> InputError:
    return InputError(f"no question is in both; b has, for instance, {key!r}", hint="both need the same ids")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _pairs(a: _Answered, b: _Answered, strategies: Sequence[str]) -> list[tuple[str, str]]:
    """Names of answer sets, that of `b` first."""
    if not strategies and ("" in a.answers or "" in b.answers):
        chosen = [(one, other) for one in a.answers for other in b.answers]
    elif not strategies:
        chosen = [(one, one) for one in a.answers if one in b.answers]
        if not chosen:
            raise InputError(
                f"no strategy is in both: a has {', '.join(a.answers)}, b has {', '.join(b.answers)}",
                hint="choose with --strategies A=B",
            )
    else:
        chosen = []
        for asked in strategies:
            one, equals, other = asked.partition("=")
            chosen.append((_known(one, a.answers, "a"), _known(other if equals else one, b.answers, "b")))
    return [(_name("b", other), _name("a", one)) for one, other in chosen]


def _known(name: str, answers: Mapping[str, AnswerSet], letter: str) -> str:
    """Predictions without strategies are compared with whatever is asked for."""
    if tuple(answers) == ("",):
        return ""
    if name not in answers:
        raise InputError(f"{letter} has no strategy {name!r}", hint=f"one of: {', '.join(answers)}")
    return name


def _name(letter: str, strategy: str) -> str:
    return f"{letter}.{strategy}" if strategy else letter


def _comparison(
    base: Evaluation,
    rule: Rule,
    runs: Mapping[str, str],
    answers: Mapping[str, AnswerSet],
    pairs: Sequence[tuple[str, str]],
    only: Mapping[str, tuple[str, ...]],
    other_pictures: tuple[str, ...] = (),
) -> Comparison:
    compared = compare_pairs(pairs, {name: one.grades for name, one in answers.items()})
    in_pairs = {name for pair in pairs for name in pair}
    return Comparison(
        title=base.benchmark.title,
        benchmark=base.benchmark.name,
        split=base.split,
        rule=rule,
        runs=runs,
        answers=answers,
        pairs=tuple(ComparedPair(one, _changes(base.items, answers[one.other], answers[one.one])) for one in compared),
        only=only,
        other_pictures=other_pictures,
        unpaired=tuple(name for name in answers if name not in in_pairs),
    )


def _changes(items: Mapping[str, Item], before: AnswerSet, after: AnswerSet) -> tuple[Change, ...]:
    both = [(key, one, after.scores[key]) for key, one in before.scores.items() if key in after.scores]
    changes = [
        Change(items[key], one, other)
        for key, one, other in both
        if one.grade != other.grade or (one.value != other.value and not one.correct)
    ]
    return tuple(sorted(changes, key=lambda change: (change.gain == 0, change.gain > 0)))


def as_json(comparison: Comparison) -> dict[str, Any]:
    return {
        "benchmark": comparison.benchmark,
        "split": comparison.split,
        "rule": comparison.rule.value,
        "runs": dict(comparison.runs),
        "only": {letter: list(ids) for letter, ids in comparison.only.items()},
        "other_pictures": list(comparison.other_pictures),
        "unpaired": list(comparison.unpaired),
        "accuracies": {
            name: {"accuracy": one.accuracy, "questions": len(one.grades)} for name, one in comparison.answers.items()
        },
        "comparisons": [
            asdict(pair.comparison) | {"changes": [_change_as_json(change) for change in pair.changes]}
            for pair in comparison.pairs
        ],
    }


def _change_as_json(change: Change) -> dict[str, Any]:
    item = change.item
    return {
        "id": item.id,
        "question": item.question,
        "options": list(item.options),
        "gold": list(item.gold),
        "other": {"answer": change.before.value, "grade": change.before.grade},
        "one": {"answer": change.after.value, "grade": change.after.grade},
    }
