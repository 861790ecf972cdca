"""The command line `colm-vl eval`. Commands import what they need when they run."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from colm_vl import terminal
from colm_vl.batch.options import RayOption, WorkerCpusOption, WorkerGpusOption, WorkersOption
from colm_vl.errors import InputError

from .cli_options import (
    AnswerColumnOption,
    BenchmarkOrFile,
    ConcurrencyOption,
    DataOption,
    GroupColumnOption,
    LimitOption,
    MapOption,
    MetricOption,
    ReplyColumnOption,
    SetOption,
    ShardOption,
    SplitOption,
    SubjectsOption,
    TeamOption,
    show,
    split_commas,
)
from .cli_studies import ablate, calibrate, capacity
from .types import Rule

if TYPE_CHECKING:
    from .benchmarks.base import Benchmark
    from .labelled import Labelled
    from .own_questions import OwnQuestions

LISTED_IN_TERMINAL, LISTED_IN_FILES = 10, 500
"""How many differently answered questions `compare` lists for each pair."""

app = typer.Typer(
    name="eval",
    help="Measure on benchmarks whether collaboration helps, and what it costs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command("list")
def list_benchmarks() -> None:
    """List the benchmarks and their splits."""
    from .benchmarks.registry import known
    from .tables import benchmark_table

    Console().print(benchmark_table(known().values()))


@app.command()
def score(
    benchmark: BenchmarkOrFile,
    predictions: Annotated[
        Path,
        typer.Option(
            help="Model replies: a file, also of lmms-eval, VLMEvalKit or inspect_ai; a run folder; or a folder of "
            "<Subject>/output.json."
        ),
    ],
    gold: Annotated[Path | None, typer.Option(help="The gold answers of a benchmark: its own file or folder.")] = None,
    metric: MetricOption = "",
    answer_column: AnswerColumnOption = "answer",
    group_column: GroupColumnOption = None,
    mapping: MapOption = "",
    rule: Annotated[Rule, typer.Option(help="How replies are parsed and scored.")] = Rule.STRICT,
    strategy: Annotated[str, typer.Option(help="The strategy to score, for a run folder with several.")] = "",
    reply_column: ReplyColumnOption = "",
    label_column: Annotated[
        str,
        typer.Option(help="For a file: a column of grades by people, to report how far the metric agrees with them."),
    ] = "",
    split: Annotated[str, typer.Option(help="The split of the gold answers; by default the benchmark's first.")] = "",
    partial: Annotated[bool, typer.Option("--partial", help="Accept missing predictions, and score the rest.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
) -> None:
    """Score existing predictions of any model. Loads no model, unless one is the judge."""
    from colm_vl.batch.questions import Questions, read_columns

    from . import agreement
    from .predictions import read_predictions
    from .run_folder import GRADES
    from .scoring.scorer import score as score_replies
    from .tables import agreement_table, results_as_json, results_tables

    if _is_own(benchmark):
        gold = Path(benchmark)
        kept = predictions / GRADES if predictions.is_dir() else predictions.with_suffix(f".{GRADES}")
        chosen: Benchmark = _own_questions(gold, metric, answer_column, group_column or (), mapping, kept=kept)
        items = list(chosen.load(chosen.source(None, split)))
    else:
        if label_column:
            raise InputError("--label-column is for files of questions", hint="leave it out")
        if gold is None:
            raise InputError("--gold is missing", hint="give the benchmark's own file with the gold answers")
        chosen = _benchmark(benchmark, metric, group_column)
        items = chosen.gold(gold, split or chosen.splits[0])
    replies = read_predictions(predictions, strategy, column=reply_column, gold=gold, items=items)
    results = score_replies(chosen, items, replies, rule, partial=partial)
    grades = {one.id: one.grade for one in results.scores}
    data, tables = results_as_json(results) | {"grades": grades}, [*results_tables(chosen, results)]
    if label_column:
        found = agreement.agreement(
            grades, agreement.read_labels(Questions(gold, columns=read_columns(mapping)), label_column)
        )
        data["agreement"] = agreement.as_json(found)
        tables += agreement_table(found)
    show(as_json, data, tables)


def _is_own(name: str) -> bool:
    """Whether it is a file of questions rather than the name of a benchmark."""
    from .benchmarks.registry import known

    return bool(Path(name).suffix) or (name not in known() and Path(name).exists())


def _own_questions(
    file: Path,
    metric: str,
    answer_column: str,
    group_columns: Sequence[str],
    mapping: str,
    *,
    pictures: bool = False,
    kept: Path | None = None,
) -> OwnQuestions:
    """Prints a line for each row that cannot be used, and exits with 2 if there are any."""
    from colm_vl.batch.questions import Questions, read_columns

    from .labelled import read_labelled
    from .own_questions import OwnQuestions

    rows = Questions(file, columns=read_columns(mapping))
    labelled = read_labelled(
        rows, answer_column=answer_column, group_columns=group_columns, metric=metric, pictures=pictures
    )
    _refuse_problems(labelled)
    return OwnQuestions(file.name, labelled, rows, kept)


def _benchmark(name: str, metric: str, group_columns: Sequence[str] | None) -> Benchmark:
    from .benchmarks.registry import find

    if metric or group_columns:
        raise InputError(
            "--metric and --group-column are for files of questions", hint=f"{name} has its own rules and categories"
        )
    return find(name)


def _refuse_problems(labelled: Labelled) -> None:
    for problem in labelled.problems:
        typer.echo(problem, err=True)
    if labelled.problems:
        raise typer.Exit(2)


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="A file of questions as for `colm-vl batch`, with gold answers.")],
    team: TeamOption = None,
    strategies: Annotated[str, typer.Option(help="The strategies to estimate the cost of.")] = "vote,colm",
    metric: MetricOption = "",
    answer_column: AnswerColumnOption = "answer",
    group_column: GroupColumnOption = None,
    mapping: MapOption = "",
) -> None:
    """Show what is understood of a file of your own questions, what is wrong, and what it would cost.

    Calls no model. Rows that cannot be used are listed, one line each, and the exit status is 2.
    """
    from colm_vl import CoLM
    from colm_vl.batch.progress import plan_summary
    from colm_vl.batch.questions import Questions, read_columns

    from .labelled import read_labelled
    from .tables import check_lines

    columns = read_columns(mapping)
    labelled = read_labelled(
        Questions(file, columns=columns),
        answer_column=answer_column,
        group_columns=group_column or (),
        metric=metric,
        pictures=True,
    )
    for line in check_lines(labelled, answer_column, group_column or (), metric):
        typer.echo(line)
    _refuse_problems(labelled)
    names = split_commas(strategies)
    with CoLM.from_team(team, strategy=names[0] if names else "colm") as colm:
        typer.echo(plan_summary(colm.plan(file, strategy=names or None, columns=columns), 0))


@app.command()
def run(
    benchmark: BenchmarkOrFile,
    out: Annotated[
        Path, typer.Option(help="The run folder. Running the same command again resumes an interrupted run.")
    ],
    data: DataOption = None,
    team: TeamOption = None,
    strategies: Annotated[str, typer.Option(help="Strategies, separated by commas.")] = "solo,server,vote,concat,colm",
    metric: MetricOption = "",
    answer_column: AnswerColumnOption = "answer",
    group_column: GroupColumnOption = None,
    mapping: MapOption = "",
    split: SplitOption = "",
    subjects: SubjectsOption = "",
    limit: LimitOption = None,
    settings: SetOption = None,
    concurrency: ConcurrencyOption = 16,
    shard: ShardOption = "",
    ray: RayOption = "",
    workers: WorkersOption = None,
    worker_gpus: WorkerGpusOption = None,
    worker_cpus: WorkerCpusOption = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start again from the beginning. The old run is kept beside the new one.")
    ] = False,
) -> None:
    """Run a benchmark or your own questions on a team, with several strategies on the same drafts.

    With --shard, one of several parts of the questions is asked, on this machine or another. Afterwards,
    [bold]colm-vl batch merge OUT[/bold] joins the answers. Then the same command without --shard asks what is missing.
    """
    from colm_vl import CoLM
    from colm_vl.batch.executors import ray_options
    from colm_vl.batch.shards import Shard
    from colm_vl.policies import read_settings

    from .evaluator import plan
    from .evaluator import run as run_plan
    from .progress import ProgressBar, results_summary

    names = split_commas(strategies)
    if not names:
        raise InputError("--strategies is empty", hint="give one or more, such as --strategies vote,colm")
    chosen: Benchmark = (
        _own_questions(Path(benchmark), metric, answer_column, group_column or (), mapping, pictures=True)
        if _is_own(benchmark)
        else _benchmark(benchmark, metric, group_column)
    )
    planned = plan(chosen, data, split, split_commas(subjects), limit)
    cluster = ray_options(ray, workers, worker_gpus, worker_cpus)
    part = Shard.read(shard) if shard else Shard(1, 1)
    expected = max(1, round(len(planned.items) * len(names) / part.count))
    try:
        # The strategy in the team file is not used here, and may need a server that the team does not have.
        policy = read_settings(settings or ()) | {"strategy": names[0]}
        with CoLM.from_team(team, **policy) as colm, ProgressBar(expected, about=bool(shard)) as progress:
            traces = run_plan(
                colm, planned, names, out, concurrency=concurrency, fresh=fresh, shard=shard or None, ray=cluster
            )
            answered = sum(map(progress.count, traces))
    except KeyboardInterrupt:
        typer.echo("stopped; run the same command again to resume", err=True)
        raise typer.Exit(130) from None
    if shard:
        typer.echo(f"answers of shard {part}: join them with `colm-vl batch merge {out}`")
    else:
        Console().print(results_summary(out))
    if not answered and not shard:
        sys.exit(1)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
    out: Annotated[Path, typer.Option(help="The folder of the report.")] = Path("report"),
    rule: Annotated[Rule, typer.Option(help="The rule by which all replies are scored.")] = Rule.STRICT,
    items: Annotated[
        int, typer.Option(min=0, metavar="N", help="How many questions of each run report.html lets you look through.")
    ] = 1_000,
) -> None:
    """Write report.md, report.html (one file), report.json and plots."""
    from .report.write import write_report

    # Pictures of a benchmark from the hub are taken from its cache on this machine; nothing is downloaded for a report.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    for path in write_report(runs, out, rule, items):
        typer.echo(path)


@app.command()
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(help="One run folder, or two: the baseline, then the other. One of two may be predictions."),
    ],
    strategies: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Strategies, separated by commas; by default all that both have. vote=colm compares colm of the "
            "second run with vote of the first.",
        ),
    ] = "",
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            help='Exit with 1 if this holds for the accuracies in percent, such as "colm < vote - 1"; with two runs, '
            '"b.colm < a.colm - 1". Can be given several times.',
        ),
    ] = None,
    rule: Annotated[Rule, typer.Option(help="The rule by which all replies are scored.")] = Rule.STRICT,
    reply_column: ReplyColumnOption = "",
    out: Annotated[
        Path | None, typer.Option(help="A folder for comparison.md, comparison.html and comparison.json.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
) -> None:
    """Compare two runs, or the strategies of one, question by question. Calls no model.

    Exit status: 1 if a condition of --fail-if holds, 2 for runs that cannot be compared and for other bad input.
    """
    from .conditions import check, parse
    from .report.changes import document
    from .report.comparison import as_json as comparison_as_json
    from .report.comparison import compare_run, compare_runs
    from .report.document import to_terminal
    from .report.write import write_document

    conditions = [parse(text) for text in fail_if or ()]
    if len(runs) > 2:
        raise InputError(f"{len(runs)} runs, expected one or two", hint="compare two at a time")
    chosen = split_commas(strategies)
    if len(runs) == 1:
        found = compare_run(runs[0], chosen, rule)
    else:
        found = compare_runs(runs[0], runs[1], chosen, rule, reply_column=reply_column)
    findings = [check(one, {name: each.grades for name, each in found.answers.items()}) for one in conditions]
    data = comparison_as_json(found) | {"conditions": [asdict(one) for one in findings]}
    shown = document(found, findings, LISTED_IN_TERMINAL, "--json lists all")
    show(as_json, data, to_terminal(shown))
    if out:
        written = document(found, findings, LISTED_IN_FILES, "comparison.json lists all")
        for path in write_document(written, out, data, "comparison"):
            typer.echo(path, err=as_json)
    held = [one for one in findings if one.held]
    for one in held:
        typer.echo(f"--fail-if {one}", err=True)
    if held:
        raise typer.Exit(1)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    to: Annotated[str, typer.Option(metavar="FORMAT", help="lmms-eval, vlmevalkit or inspect.")],
    out: Annotated[Path, typer.Option(help="The folder for the files.")],
    strategies: Annotated[str, typer.Option(help="Strategies, separated by commas; by default all.")] = "",
    rule: Annotated[Rule, typer.Option(help="The rule by which the replies are scored.")] = Rule.STRICT,
) -> None:
    """Write the answers of a run in the format of another harness. `score` and `compare` read these formats."""
    from .exchange.export import export as export_run
    from .exchange.registry import find
    from .run_folder import read_evaluation

    for path in export_run(read_evaluation(run), find(to), out, split_commas(strategies), rule):
        typer.echo(path)


for _command in (ablate, calibrate, capacity):
    app.command()(_command)


def main() -> None:
    """Exit codes: 0 success, 1 no question was answered or a condition of --fail-if holds, 2 bad input or
    configuration."""
    terminal.run(app)
