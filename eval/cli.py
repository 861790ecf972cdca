"""The command line `colm-vl eval`. Commands import what they need when they run."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, RenderableType

from colm_vl import terminal
from colm_vl.errors import InputError

from .ablations.kinds import Ablation
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

BenchmarkOrFile = Annotated[
    str,
    typer.Argument(
        metavar="BENCHMARK|FILE",
        help="A name from `colm-vl eval list`, or a file of questions as for `colm-vl batch`, with gold answers.",
    ),
]
DataOption = Annotated[
    Path | None, typer.Option(help="The folder or file of the benchmark; by default downloaded from the hub.")
]
TeamOption = Annotated[Path | None, typer.Option(help="A team file; by default the pocket team.")]
SubjectsOption = Annotated[str, typer.Option(help="Subjects, separated by commas; by default all.")]
LimitOption = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Process only a random sample of N questions, the same every time."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="A key of the policy, such as rounds=2; can be given several times."
    ),
]
ConcurrencyOption = Annotated[int, typer.Option(min=1, help="Number of questions processed at a time.")]
SplitOption = Annotated[str, typer.Option(help="The split; by default the benchmark's first.")]

MetricOption = Annotated[
    str,
    typer.Option(
        help="For a file: choice, exact, contains, numeric, anls, vqa, f1, math, judge, or module:function; settings "
        "follow, as in numeric,relative=0.01 or judge,team=team.toml. By default choice for questions with choices, "
        "vqa for ten gold answers, numeric for numbers, else exact."
    ),
]
AnswerColumnOption = Annotated[str, typer.Option(help="For a file: the column of the gold answers.")]
GroupColumnOption = Annotated[
    list[str] | None,
    typer.Option(help="For a file: a column to break the result down by; can be given several times."),
]

ReplyColumnOption = Annotated[
    str, typer.Option(help="The column of predictions that holds the replies; by default the first known one.")
]


MapOption = Annotated[
    str,
    typer.Option(
        "--map",
        metavar="FIELD=COLUMN,…",
        help="For a file: its columns with other names, as in question=query,images=picture.",
    ),
]


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
    _show(as_json, data, tables)


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
    names = _split_commas(strategies)
    with CoLM.from_team(team, strategy=names[0] if names else "colm") as colm:
        typer.echo(plan_summary(colm.plan(file, strategy=names or None, columns=columns), 0))


def _show(as_json: bool, data: dict[str, Any], tables: Iterable[RenderableType]) -> None:
    if as_json:
        typer.echo(json.dumps(data, indent=1))
        return
    console = Console()
    for part in tables:
        console.print(part)


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
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start again from the beginning. The old run is kept beside the new one.")
    ] = False,
) -> None:
    """Run a benchmark or your own questions on a team, with several strategies on the same drafts."""
    from colm_vl import CoLM
    from colm_vl.policies import read_settings

    from .evaluator import plan
    from .evaluator import run as run_plan
    from .progress import ProgressBar, results_summary

    names = _split_commas(strategies)
    if not names:
        raise InputError("--strategies is empty", hint="give one or more, such as --strategies vote,colm")
    chosen: Benchmark = (
        _own_questions(Path(benchmark), metric, answer_column, group_column or (), mapping, pictures=True)
        if _is_own(benchmark)
        else _benchmark(benchmark, metric, group_column)
    )
    planned = plan(chosen, data, split, _split_commas(subjects), limit)
    try:
        # The strategy in the team file is not used here, and may need a server that the team does not have.
        policy = read_settings(settings or ()) | {"strategy": names[0]}
        with CoLM.from_team(team, **policy) as colm, ProgressBar(len(planned.items) * len(names)) as progress:
            traces = run_plan(colm, planned, names, out, concurrency=concurrency, fresh=fresh)
            answered = sum(map(progress.count, traces))
    except KeyboardInterrupt:
        typer.echo("stopped; run the same command again to resume", err=True)
        raise typer.Exit(130) from None
    Console().print(results_summary(out))
    if not answered:
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
    chosen = _split_commas(strategies)
    if len(runs) == 1:
        found = compare_run(runs[0], chosen, rule)
    else:
        found = compare_runs(runs[0], runs[1], chosen, rule, reply_column=reply_column)
    findings = [check(one, {name: each.grades for name, each in found.answers.items()}) for one in conditions]
    data = comparison_as_json(found) | {"conditions": [asdict(one) for one in findings]}
    shown = document(found, findings, LISTED_IN_TERMINAL, "--json lists all")
    _show(as_json, data, to_terminal(shown))
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

    for path in export_run(read_evaluation(run), find(to), out, _split_commas(strategies), rule):
        typer.echo(path)


@app.command()
def ablate(
    kind: Annotated[Ablation, typer.Argument(help="What to change.")],
    out: Annotated[
        Path, typer.Option(help="The folder of the runs and the report. Running the same command again resumes.")
    ],
    benchmark: Annotated[str, typer.Argument(help="A name from `colm-vl eval list`.")] = "pocket",
    data: DataOption = None,
    team: TeamOption = None,
    split: SplitOption = "",
    subjects: SubjectsOption = "",
    limit: LimitOption = None,
    concurrency: ConcurrencyOption = 16,
    max_rounds: Annotated[int, typer.Option(min=1, max=10, help="For rounds: the maximum number of rounds.")] = 3,
    all_subsets: Annotated[
        bool, typer.Option("--all-subsets", help="For clients: test every subset of the clients, not only the first N.")
    ] = False,
    misguided: Annotated[
        str, typer.Option(help="For server: shares of the questions that get the guidance for another question.")
    ] = "0.25,0.5,1",
    smaller: Annotated[Path | None, typer.Option(help="For server: a team file with a smaller server model.")] = None,
    latency: Annotated[str, typer.Option(help="For network: one-way latencies in milliseconds.")] = "5,50,200",
    bandwidth: Annotated[str, typer.Option(help="For network: bandwidths in Mbit/s.")] = "1,10,100",
    askers: Annotated[
        str, typer.Option(help="For load: numbers of askers, each of whom asks one question after the other.")
    ] = "1,2,4,8,16,32,64",
    seconds: Annotated[float, typer.Option(min=1, help="For load: the time to measure each number of askers.")] = 20,
    places: Annotated[int, typer.Option(min=1, help="For load: how many requests the server answers at a time.")] = 1,
    slow: Annotated[
        str, typer.Option(metavar="NAME=FACTOR,…", help="For load: clients on slower hardware, as in shapes=4.")
    ] = "",
    gates: Annotated[
        str, typer.Option(help="For load: gates of colm, each as a setup of its own.")
    ] = "disagreement,confidence=0.9",
    replay_server: Annotated[
        bool,
        typer.Option(
            "--replay-server",
            help="For load: compute each reply of the server once, and repeat it after the same time, so that other "
            "load on this machine does not change what it can answer.",
        ),
    ] = False,
    stub: Annotated[
        bool, typer.Option("--stub", help="For load: stub endpoints on loopback in place of a team and a benchmark.")
    ] = False,
) -> None:
    """Change one thing about the method or the team, and measure the difference."""
    from colm_vl.team import Team

    from .ablations.study import study
    from .ablations.variants import AblationSettings
    from .benchmarks.registry import find
    from .evaluator import plan
    from .report.write import write_document

    if stub and kind is not Ablation.LOAD:
        raise InputError("--stub is for load", hint="leave it out")
    planned = plan(find(benchmark), data, split, _split_commas(subjects), limit)
    members = Team.load(team) if team else Team.pocket()
    if kind is Ablation.LOAD:
        from .ablations.load import load_study, stub_study
        from .ablations.load_values import LoadSettings

        load = LoadSettings(
            _counts("askers", askers), seconds, places, _factors(slow), tuple(_split_commas(gates)), replay_server
        )
        tell = partial(typer.echo, err=True)
        result = stub_study(out, load, tell) if stub else load_study(members, planned, out, load, tell)
    elif kind is Ablation.NETWORK:
        from .ablations.network import Links, network_study

        lines = Links(_numbers("latency", latency), _numbers("bandwidth", bandwidth))
        result = network_study(members, planned, out, lines)
    else:
        shares = _numbers("misguided", misguided)
        settings = AblationSettings(max_rounds, all_subsets, shares, smaller)
        result = study(kind, members, planned, out, settings, concurrency=concurrency)
    for path in write_document(result.content, out, result.data, kind.value):
        typer.echo(path)


@app.command()
def calibrate(
    run: Annotated[Path, typer.Argument(help="A run folder in which the server was always asked.")],
    risk: Annotated[
        float, typer.Option(min=0.0001, max=0.5, help="The share of accuracy that skipping the server may lose.")
    ] = 0.02,
    confidence: Annotated[
        float, typer.Option(min=0.5, max=0.9999, help="The probability that the guarantee holds.")
    ] = 0.95,
    group_column: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Certify each group of this column. Repeatable.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The certificate to write.")] = Path("gate.json"),
    strategy: Annotated[str, typer.Option(help="The strategy of the run.")] = "colm",
    rule: Annotated[Rule, typer.Option(help="How replies are parsed and scored.")] = Rule.STRICT,
) -> None:
    """Calibrate a gate on the answers of a run, so that it skips the server at a certified risk.

    To use it, set gate = { calibrated = "gate.json" } in the table policy of the team file.
    """
    from .calibration.certify import Promise, write_calibration
    from .calibration.certify import calibrate as calibrate_run
    from .run_folder import read_evaluation
    from .tables import certificate_table

    promise = Promise(risk, confidence, group_column or ())
    result = calibrate_run(read_evaluation(run), promise, strategy=strategy, rule=rule)
    write_calibration(result, out, run)
    console = Console()
    console.print(certificate_table(result))
    console.print(f'Written to {out}. Use it with \\[policy] gate = {{ calibrated = "{out.name}" }}')


@app.command()
def capacity(
    run: Annotated[Path, typer.Argument(help="A run folder in which the server was asked in every question.")],
    arrivals: Annotated[
        str, typer.Option(metavar="RATE", help="Questions of all clients together: 5/s, 200/min, 4/h or 1000/day.")
    ],
    target_p95: Annotated[
        float, typer.Option(min=0.001, help="The time in seconds within which 95 % of the questions are answered.")
    ],
    clients: Annotated[int, typer.Option(min=1, help="The number of client devices, up to millions.")] = 1000,
    places: Annotated[
        int, typer.Option(min=1, help="How many requests one server answers at a time, in the times of the run.")
    ] = 1,
    slow: Annotated[
        str, typer.Option(metavar="NAME=FACTOR,…", help="Clients on slower hardware than that of the run.")
    ] = "",
    strategy: Annotated[str, typer.Option(help="The strategy of the run.")] = "colm",
    out: Annotated[Path | None, typer.Option(help="A folder for a report with a plot.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
) -> None:
    """Simulate how many servers answer 95 % of the questions in time, for each gate.

    It takes the times of the calls of a run, and each gate's decisions on
    its drafts. Make the run with as many questions at a time as one server
    answers, such as colm-vl eval run FILE --concurrency 1 --out RUN. The
    output tells what is measured from what is simulated.

    Example: colm-vl eval capacity runs/mine --arrivals 5/s --clients 1000 --target-p95 8
    """
    from .capacity.plan import Promise, curve, plan_capacity
    from .capacity.rates import read_rate
    from .capacity.report import as_json as plan_as_json
    from .capacity.report import document
    from .capacity.simulation import Load
    from .report.terminal import terminal_parts
    from .report.write import write_document
    from .run_folder import read_evaluation

    promise = Promise(Load(read_rate(arrivals), clients), target_p95, places)
    evaluation = read_evaluation(run)
    plan = plan_capacity(evaluation, strategy, promise, _factors(slow), partial(typer.echo, err=True))
    points = list(curve(plan)) if out else []
    shown, data = document(evaluation.label, plan, points), plan_as_json(plan, points)
    _show(as_json, data, terminal_parts(shown))
    if out:
        for path in write_document(shown, out, data, "capacity"):
            typer.echo(path, err=as_json)


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in _split_commas(text))
    except ValueError:
        raise InputError(f"--{option} {text!r}: expected numbers", hint="separate them by commas") from None


def _counts(option: str, text: str) -> tuple[int, ...]:
    parts = _split_commas(text)
    if not parts or not all(part.isdecimal() and int(part) for part in parts):
        raise InputError(f"--{option} {text!r}: expected whole numbers from 1", hint="separate them by commas")
    return tuple(sorted(set(map(int, parts))))


def _factors(text: str) -> dict[str, float]:
    """Factors by client."""
    factors: dict[str, float] = {}
    for part in _split_commas(text):
        name, _, factor = part.partition("=")
        try:
            factors[name.strip()] = float(factor)
        except ValueError:
            factors[name.strip()] = math.nan
        if not 0 < factors[name.strip()] < math.inf:
            raise InputError(f"--slow {part!r}: expected a client and a factor above 0", hint="such as --slow shapes=4")
    return factors


def _split_commas(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def main() -> None:
    """Exit codes: 0 success, 1 no question was answered or a condition of --fail-if holds, 2 bad input or
    configuration."""
    terminal.run(app)
