"""Reads and writes run folders: the benchmark and its items, beside the traces that the batch wrote."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colm_vl.batch import TRACES
from colm_vl.batch.lines import dump, replace_file
from colm_vl.batch.shards import files
from colm_vl.errors import InputError
from colm_vl.types import Trace

from .benchmarks.base import Benchmark
from .benchmarks.registry import find
from .dataset import Source, json_lines, read_json
from .own_questions import OwnQuestions
from .stored_traces import stored_traces
from .types import Item

EVALUATION, ITEMS, SOURCE, GRADES = "eval.json", "items.jsonl", "source.json", "grades"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One run of a benchmark on a team. `traces` maps each strategy to its traces, in the order of the items.

    `label` identifies the run in a report: the folder's name, with its parents' names if several runs share it.
    """

    label: str
    folder: Path
    benchmark: Benchmark
    split: str
    items: Mapping[str, Item]
    traces: Mapping[str, Sequence[Trace]]

    def by_question(self) -> Iterator[Mapping[str, Trace]]:
        """The traces of each question by strategy, in the order of the items; for a run from a folder, each is read
        from its file when it is needed."""
        waiting = {strategy: iter(traces) for strategy, traces in self.traces.items()}
        following = {strategy: next(traces, None) for strategy, traces in waiting.items()}
        for key in self.items:
            found = {strategy: trace for strategy, trace in following.items() if trace and trace.id == key}
            for strategy in found:
                following[strategy] = next(waiting[strategy], None)
            if found:
                yield found


def check_evaluation(folder: Path, benchmark: Benchmark, split: str) -> None:
    """Raises `InputError` if the folder holds a run of another benchmark or split."""
    known = folder / EVALUATION
    if known.exists() and read_json(known) != _record(benchmark, split):
        raise InputError(
            f"{folder} holds a run of {_title(read_json(known))}, not of {_title(_record(benchmark, split))}",
            hint="choose another folder with --out",
        )


def write_evaluation(folder: Path, benchmark: Benchmark, split: str, items: Iterable[Item], source: Source) -> None:
    """Write what scoring needs, so that a report can be made without the benchmark's data. Images are left out; where
    they were read is kept."""
    replace_file(folder / ITEMS, (dump(_as_row(item)) for item in items))
    path = str(source.path.resolve()) if source.path else None
    record = {"path": path, "subjects": source.subjects, "columns": dict(source.columns)}
    replace_file(folder / SOURCE, [dump(record)])
    replace_file(folder / EVALUATION, [dump(_record(benchmark, split))])


def _record(benchmark: Benchmark, split: str) -> dict[str, str]:
    """Another metric is no other evaluation: the questions and answers are the same."""
    if isinstance(benchmark, OwnQuestions):
        return {"file": benchmark.name}
    return {"benchmark": benchmark.name, "split": split}


def _benchmark(record: Mapping[str, str], folder: Path) -> Benchmark:
    return OwnQuestions(record["file"], kept=folder / GRADES) if "file" in record else find(record["benchmark"])


def _title(record: Mapping[str, str]) -> str:
    split = record.get("split")
    return repr(record.get("file") or record.get("benchmark")) + (f" ({split})" if split else "")


def read_evaluation(folder: Path) -> Evaluation:
    """Raises `InputError` for a folder that `run` did not write, or that has no answers yet."""
    if not (folder / EVALUATION).exists():
        raise InputError(
            f"{folder}: no evaluation in this folder", hint="create one with `colm-vl eval run BENCHMARK|FILE --out …`"
        )
    record = read_json(folder / EVALUATION)
    items = {item.id: item for item in map(_as_item, json_lines(folder / ITEMS))}
    traces = stored_traces(folder, items)
    if not traces:
        raise InputError(f"{folder}: no answers yet", hint="wait for the run, or start it again")
    return Evaluation(folder.resolve().name, folder, _benchmark(record, folder), record.get("split", ""), items, traces)


def labels(folders: Sequence[Path]) -> list[str]:
    """The folders' names, each with as many parent folders as are needed to make them unique.

    Raises `InputError` for a folder that is given twice.
    """
    paths = [folder.resolve() for folder in folders]
    twice = next((path for number, path in enumerate(paths) if path in paths[:number]), None)
    if twice is not None:
        raise InputError(f"{twice} is given twice", hint="give each run once")
    depth = 1
    while len({path.parts[-depth:] for path in paths}) < len(paths):
        depth += 1
    return ["/".join(path.parts[-depth:]) for path in paths]


def read_traces(folder: Path) -> Iterator[Trace]:
    for path in files(folder, TRACES):
        yield from (Trace.from_dict(row) for row in json_lines(path))


def _as_row(item: Item) -> dict[str, Any]:
    return {
        "id": item.id,
        "question": item.question,
        "gold": item.gold,
        "kind": item.kind,
        "options": item.options,
        "groups": dict(item.groups),
        "unit": item.unit,
        "unit_size": item.unit_size,
        "turns": item.turns,
        "metric": item.metric,
    }


def _as_item(row: Mapping[str, Any]) -> Item:
    return Item(
        id=row["id"],
        question=row["question"],
        gold=tuple(row["gold"]),
        kind=row["kind"],
        options=tuple(row["options"]),
        groups=row["groups"],
        unit=row["unit"],
        unit_size=row.get("unit_size", 1),
        turns=tuple(row["turns"]),
        metric=row.get("metric", ""),
    )
