"""Exports a run: the answers of each strategy in the format of another harness."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from colm_vl.batch import TRACES
from colm_vl.errors import InputError
from colm_vl.types import Trace

from ..benchmarks.base import Benchmark
from ..client_answers import reply_of
from ..run_folder import Evaluation
from ..scoring.scorer import score
from ..types import Item, Rule
from .base import Answered, Format, StrategyAnswers


def export(
    evaluation: Evaluation, format_: Format, out: Path, strategies: Sequence[str] = (), rule: Rule = Rule.STRICT
) -> list[Path]:
    """Write the answers of all strategies, or of `strategies`, and return the paths of the files.

    Raises `InputError` for an unknown strategy, a benchmark that is not scored here, and if `out` cannot be written to.
    """
    unknown = [name for name in strategies if name not in evaluation.traces]
    if unknown:
        raise InputError(
            f"{evaluation.label}: no strategy {unknown[0]!r}", hint=f"one of: {', '.join(evaluation.traces)}"
        )
    answers = [_answers(evaluation, name, rule) for name in strategies or evaluation.traces]
    try:
        out.mkdir(parents=True, exist_ok=True)
        return [path for one in answers for path in format_.write(one, out)]
    except OSError as error:
        raise InputError(f"{out}: cannot be written to ({error.strerror})", hint="choose another --out") from None


def _answers(evaluation: Evaluation, strategy: str, rule: Rule) -> StrategyAnswers:
    benchmark, items = evaluation.benchmark, evaluation.items
    traces = {trace.id: trace for trace in evaluation.traces[strategy]}
    replies = {key: reply_of(trace) for key, trace in traces.items()}
    results = score(benchmark, list(items.values()), replies, rule, partial=True)
    scores = {one.id: one for one in results.scores}
    answers = tuple(
        Answered(place, item, _text(benchmark, item, traces[key]), scores.get(key), traces[key])
        for place, (key, item) in enumerate(items.items())
        if key in traces
    )
    finished = datetime.fromtimestamp((evaluation.folder / TRACES).stat().st_mtime, UTC)
    return StrategyAnswers(benchmark.name, evaluation.split, strategy, finished, answers, results)


def _text(benchmark: Benchmark, item: Item, trace: Trace) -> str:
    answer = reply_of(trace).text
    return benchmark.format_answer(item, answer) if answer else ""
