"""Runs a benchmark on a team with several strategies, through `CoLM.batch`: resumable, with shared drafts."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from colm_vl import CoLM, RayOptions, prompts
from colm_vl.batch.questions import Row
from colm_vl.errors import InputError
from colm_vl.types import Query, Trace

from .benchmarks.base import Benchmark
from .benchmarks.judged import AnswerFile, JudgedBenchmark
from .calibration.certify import write_certificate
from .dataset import Source
from .run_folder import check_evaluation, read_traces, write_evaluation
from .slug import slug
from .types import Item

SECOND_TURN = "turn-2"
ANSWER_FILES = "answer-files"


@dataclass(frozen=True, slots=True)
class Questions:
    """The chosen questions of a benchmark. Each iteration reads them again, so that images are not kept in memory."""

    benchmark: Benchmark
    source: Source
    ids: frozenset[str]

    def __iter__(self) -> Iterator[Query | Row]:
        return self.benchmark.questions(self.source, self.ids)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run asks: the items without their images, and the questions with them."""

    benchmark: Benchmark
    split: str
    items: tuple[Item, ...]
    questions: Questions


def plan(
    benchmark: Benchmark, data: Path | None, split: str = "", subjects: Sequence[str] = (), limit: int | None = None
) -> Plan:
    """Read the benchmark once, without its images.

    `limit` takes a random sample of that many questions, the same one every time; items that are scored together stay
    together. Raises `InputError` for data that cannot be used.
    """
    source = benchmark.source(data, split or benchmark.splits[0], subjects)
    split = source.split
    items = _sampled(list(benchmark.load(replace(source, images=False))), limit)
    if not items:
        raise InputError(
            f"{source.label}: no questions of split {split!r}", hint="choose another --split or --subjects"
        )
    twice = len(items) - len({item.id for item in items})
    if twice:
        raise InputError(f"{source.label}: {twice} ids occur twice", hint="give every question its own id")
    return Plan(benchmark, split, items, Questions(benchmark, source, frozenset(item.id for item in items)))


def _sampled(items: Sequence[Item], limit: int | None) -> tuple[Item, ...]:
    units = list(dict.fromkeys(item.unit or item.id for item in items))
    if limit is None or limit >= len(units):
        return tuple(items)
    # A regular step could miss a category, since many benchmarks cycle through theirs. A larger limit includes the
    # sample of a smaller one.
    chosen = set(random.Random(0).sample(units, len(units))[:limit])
    return tuple(item for item in items if (item.unit or item.id) in chosen)


def run(
    colm: CoLM,
    plan: Plan,
    strategies: Sequence[str],
    out: Path,
    *,
    concurrency: int = 16,
    fresh: bool = False,
    shard: str | None = None,
    ray: RayOptions | None = None,
    **policy: Any,
) -> Iterator[Trace]:
    """Yield traces as they finish. `out` gets all that a report needs. The same call resumes an interrupted run.

    With `shard`, only the first turns of its questions are asked. The second turns of some benchmarks and their answer
    files need the answers of all shards: merge these, and run again without `shard`.
    """
    check_evaluation(out, plan.benchmark, plan.split)
    options = {"concurrency": concurrency, "fresh": fresh, "ray": ray, **policy}
    traces = iter(colm.batch(plan.questions, out, strategy=strategies, shard=shard, **options))
    first = list(islice(traces, 1))
    # Only now has the batch accepted the folder: a refused run must not overwrite the files of an earlier one.
    write_evaluation(out, plan.benchmark, plan.split, plan.items, plan.questions.source)
    write_certificate(colm.team.with_policy(**policy).policy.gate, out)
    yield from first
    yield from traces
    if shard:
        return
    for strategy in strategies:
        if isinstance(plan.benchmark, JudgedBenchmark):
            yield from _follow_up(colm, plan, plan.benchmark, strategy, out, options)
        if isinstance(plan.benchmark, AnswerFile):
            _write_answers(plan, plan.benchmark, strategy, out)


def _follow_up(
    colm: CoLM, plan: Plan, benchmark: JudgedBenchmark, strategy: str, out: Path, options: dict[str, Any]
) -> Iterator[Trace]:
    """Ask the second turn, in a folder for each strategy: the question contains the strategy's own first answer."""
    items = benchmark.follow_up(plan.items, _replies(strategy, [out]))
    if items:
        questions = [benchmark.query(item) for item in items]
        yield from colm.batch(questions, _second(out, strategy), strategy=strategy, **options)


def _write_answers(plan: Plan, benchmark: AnswerFile, strategy: str, out: Path) -> None:
    replies = _replies(strategy, [out, _second(out, strategy)])
    answered = [item for item in plan.items if item.id in replies]
    rows = benchmark.answers(answered, replies, strategy)
    folder = out / ANSWER_FILES
    folder.mkdir(exist_ok=True)
    path = folder / f"{slug(strategy)}.{benchmark.answer_format}"
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    text = json.dumps(rows, ensure_ascii=False, indent=1) if benchmark.answer_format == "json" else "\n".join(lines)
    path.write_text(text + "\n", encoding="utf-8")


def _replies(strategy: str, folders: Sequence[Path]) -> dict[str, str]:
    traces = chain.from_iterable(map(read_traces, folders))
    return {trace.id: _whole_answer(trace) for trace in traces if trace.strategy == strategy and trace.settlement}


def _whole_answer(trace: Trace) -> str:
    """The final answer with all of its lines, which a judge reads."""
    settlement = trace.settlement
    if settlement is None or settlement.choice:
        return trace.answer
    by = trace.verdict if settlement.method == "server" else next(map(trace.final.get, settlement.by), None)
    return (prompts.written_answer(by.text) if by else "") or trace.answer


def _second(out: Path, strategy: str) -> Path:
    return out / SECOND_TURN / slug(strategy)
