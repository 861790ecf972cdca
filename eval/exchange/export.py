"""Exports a run: the answers of each strategy in the format of another harness."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from colm_vl.batch import TRACES
from colm_vl.batch.shards import files
from colm_vl.errors import InputError
from colm_vl.types import Trace, Usage

from ..benchmarks.base import Benchmark
from ..client_answers import reply_of
from ..run_folder import Evaluation
from ..scoring.scorer import score
from ..types import Item, Reply, Results, Rule
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
    answers = (_answers(evaluation, name, rule) for name in strategies or evaluation.traces)
    try:
        out.mkdir(parents=True, exist_ok=True)
        return [path for one in answers for path in format_.write(one, out)]
    except OSError as error:
        raise InputError(f"{out}: cannot be written to ({error.strerror})", hint="choose another --out") from None


def _answers(evaluation: Evaluation, strategy: str, rule: Rule) -> StrategyAnswers:
    benchmark, items = evaluation.benchmark, list(evaluation.items.values())
    replies: dict[str, Reply] = {}
    usage = Usage()
    for trace in evaluation.traces[strategy]:
        replies[trace.id] = reply_of(trace)
        usage += trace.usage
    results = score(benchmark, items, replies, rule, partial=True)
    return StrategyAnswers(
        benchmark=benchmark.name,
        split=evaluation.split,
        strategy=strategy,
        finished=datetime.fromtimestamp(max(path.stat().st_mtime for path in files(evaluation.folder, TRACES)), UTC),
        ids=tuple(replies),
        usage=usage,
        results=results,
        answers=_Answers(evaluation, strategy, results),
    )


@dataclass(frozen=True, slots=True)
class _Answers:
    evaluation: Evaluation
    strategy: str
    results: Results

    def __iter__(self) -> Iterator[Answered]:
        benchmark, items = self.evaluation.benchmark, self.evaluation.items
        places = {key: place for place, key in enumerate(items)}
        scores = {one.id: one for one in self.results.scores}
        for trace in self.evaluation.traces[self.strategy]:
            item = items[trace.id]
            text = _text(benchmark, item, trace)
            yield Answered(places[trace.id], item, text, scores.get(trace.id), trace)


def _text(benchmark: Benchmark, item: Item, trace: Trace) -> str:
    answer = reply_of(trace).text
    return benchmark.format_answer(item, answer) if answer else ""
