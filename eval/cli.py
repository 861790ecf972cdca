"""`colm-vl eval`: parses, calls, prints; no logic. Each command imports what it needs when it runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from colm_vl import terminal
from colm_vl.errors import InputError

from .ablations.kinds import Ablation
from .items import Rule

app = typer.Typer(
    name="eval",
    help="Does collaborating help, with your models, on this benchmark, and at what cost?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

BenchmarkName = Annotated[str, typer.Argument(metavar="BENCHMARK", help="one of `colm-vl eval list`")]


@app.command("list")
def list_benchmarks() -> None:
    """Show the benchmarks, their splits and how they are read."""
    from .benchmarks.registry import known
    from .show import catalogue

    Console().print(catalogue(known().values()))


@app.command()
def score(
    benchmark: BenchmarkName,
    gold: Annotated[Path, typer.Option(help="the answers: the benchmark's own file or folder")],
    predictions: Annotated[Path, typer.Option(help="anybody's replies: a file, or a folder of <Subject>/output.json")],
    rule: Annotated[Rule, typer.Option(help="how replies are read")] = Rule.STRICT,
    strategy: Annotated[str, typer.Option(help="of a run of several")] = "",
    reply_column: Annotated[str, typer.Option(help="the column of the replies; default: the first known one")] = "",
    split: Annotated[str, typer.Option(help="of the gold; default: the benchmark's first")] = "",
    partial: Annotated[bool, typer.Option("--partial", help="score what is there, and say how much that is")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON and nothing else")] = False,
) -> None:
    """Score anybody's predictions. Loads no model."""
    from .benchmarks.registry import find
    from .predictions import read_predictions
    from .scoring.table import score as score_replies
    from .show import table_as_json, tables_for_people

    chosen = find(benchmark)
    items = chosen.gold(gold, split or chosen.splits[0])
    replies = read_predictions(predictions, strategy, column=reply_column, gold=gold)
    table = score_replies(chosen, items, replies, rule, partial=partial)
    if as_json:
        typer.echo(json.dumps(table_as_json(table), indent=1))
    else:
        console = Console()
        for part in tables_for_people(chosen, table):
            console.print(part)


@app.command()
def run(
    benchmark: BenchmarkName,
    out: Annotated[Path, typer.Option(help="the run's folder; the same command goes on where it ended")],
    data: Annotated[Path | None, typer.Option(help="a folder or file of the benchmark; without it, the hub")] = None,
    team: Annotated[Path | None, typer.Option(help="a team file; without it, the pocket team")] = None,
    strategies: Annotated[str, typer.Option(help="with commas between them")] = "solo,server,vote,concat,colm",
    split: Annotated[str, typer.Option(help="default: the benchmark's first")] = "",
    subjects: Annotated[str, typer.Option(help="with commas between them; default: all")] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="so many questions, drawn from all, always the same")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="questions at a time")] = 16,
    fresh: Annotated[bool, typer.Option("--fresh", help="start anew and keep the old beside it")] = False,
) -> None:
    """Ask a benchmark of a team, by several strategies on the same drafts."""
    from colm_vl import CoLM

    from .benchmarks.registry import find
    from .progress import Progressing, run_summary
    from .running import plan
    from .running import run as run_plan

    names = _listed(strategies)
    if not names:
        raise InputError("--strategies names none", hint="such as --strategies vote,colm")
    planned = plan(find(benchmark), data, split, _listed(subjects), limit)
    try:
        # The team's own strategy is not asked, and may need a server that it does not have.
        with CoLM.from_team(team, strategy=names[0]) as colm, Progressing(len(planned.items) * len(names)) as progress:
            traces = run_plan(colm, planned, names, out, concurrency=concurrency, fresh=fresh)
            answered = sum(map(progress.count, traces))
    except KeyboardInterrupt:
        typer.echo("stopped; the same command goes on from here", err=True)
        raise typer.Exit(130) from None
    Console().print(run_summary(out))
    if not answered:
        sys.exit(1)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="folders that `run` wrote")],
    out: Annotated[Path, typer.Option(help="where the report goes")] = Path("report"),
    rule: Annotated[Rule, typer.Option(help="the rule that everything is counted under")] = Rule.STRICT,
) -> None:
    """Write report.md, report.html (one file), report.json and plots."""
    from .report.write import write_report

    for path in write_report(runs, out, rule):
        typer.echo(path)


@app.command()
def ablate(
    kind: Annotated[Ablation, typer.Argument(help="what is changed")],
    out: Annotated[Path, typer.Option(help="where runs and report go; the same command goes on where it ended")],
    benchmark: Annotated[str, typer.Argument(help="one of `colm-vl eval list`")] = "pocket",
    data: Annotated[Path | None, typer.Option(help="a folder or file of the benchmark; without it, the hub")] = None,
    team: Annotated[Path | None, typer.Option(help="a team file; without it, the pocket team")] = None,
    split: Annotated[str, typer.Option(help="default: the benchmark's first")] = "",
    subjects: Annotated[str, typer.Option(help="with commas between them; default: all")] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="so many questions, drawn from all")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="questions at a time")] = 16,
    max_rounds: Annotated[int, typer.Option(min=1, max=10, help="for rounds")] = 3,
    all_subsets: Annotated[bool, typer.Option("--all-subsets", help="for clients: every subset, not nested")] = False,
    misguided: Annotated[str, typer.Option(help="for server: shares of guidance of other questions")] = "0.25,0.5,1",
    smaller: Annotated[Path | None, typer.Option(help="for server: a team file with a smaller one")] = None,
    latency: Annotated[str, typer.Option(help="for network: one-way, milliseconds")] = "5,50,200",
    bandwidth: Annotated[str, typer.Option(help="for network: Mbit/s")] = "1,10,100",
) -> None:
    """Change one thing about the method or the team, and see what it was worth."""
    from colm_vl.team import Team

    from .ablations.study import study
    from .ablations.variants import Choices
    from .benchmarks.registry import find
    from .report.write import write_document
    from .running import plan

    planned = plan(find(benchmark), data, split, _listed(subjects), limit)
    members = Team.load(team) if team else Team.pocket()
    if kind is Ablation.NETWORK:
        from .ablations.network import Lines, network_study

        lines = Lines(_numbers("latency", latency), _numbers("bandwidth", bandwidth))
        result = network_study(members, planned, out, lines)
    else:
        shares = _numbers("misguided", misguided)
        choices = Choices(max_rounds, all_subsets, shares, smaller)
        result = study(kind, members, planned, out, choices, concurrency=concurrency)
    for path in write_document(result.content, out, result.data, kind.value):
        typer.echo(path)


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in _listed(text))
    except ValueError:
        raise InputError(f"--{option} {text!r}: expected numbers", hint="with commas between them") from None


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def main() -> None:
    """Exit codes: 0 done, 1 a run that could not answer, 2 bad input or configuration."""
    terminal.run(app)
