"""`python -m eval`: parses, calls, prints; no logic. Each command imports what it needs when it runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from colm_vl.errors import ColmError
from eval.items import Rule
from processors.errors import ImageError

app = typer.Typer(
    name="eval",
    help="Does collaborating help, with your models, on this benchmark, and at what cost?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

BenchmarkName = Annotated[str, typer.Argument(metavar="BENCHMARK", help="one of `python -m eval list`")]


@app.command("list")
def list_benchmarks() -> None:
    """Show the benchmarks, their splits and how they are read."""
    from eval.benchmarks.catalogue import BENCHMARKS
    from eval.show import catalogue

    Console().print(catalogue(BENCHMARKS.values()))


@app.command()
def score(
    benchmark: BenchmarkName,
    gold: Annotated[Path, typer.Option(help="the answers: the benchmark's own file or folder")],
    predictions: Annotated[Path, typer.Option(help="anybody's replies: a file, or a folder of <Subject>/output.json")],
    rule: Annotated[Rule, typer.Option(help="how replies are read")] = Rule.STRICT,
    strategy: Annotated[str, typer.Option(help="of a run of several")] = "",
    split: Annotated[str, typer.Option(help="of the gold; default: the benchmark's first")] = "",
    partial: Annotated[bool, typer.Option("--partial", help="score what is there, and say how much that is")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON and nothing else")] = False,
) -> None:
    """Score anybody's predictions. Loads no model."""
    from eval.benchmarks.catalogue import find
    from eval.predictions import read_predictions
    from eval.scoring.table import score as score_replies
    from eval.show import table_as_json, tables_for_people

    chosen = find(benchmark)
    items = chosen.gold(gold, split or chosen.splits[0])
    table = score_replies(chosen, items, read_predictions(predictions, strategy), rule, partial=partial)
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
    from eval.benchmarks.catalogue import find
    from eval.progress import Progressing, run_summary
    from eval.running import plan
    from eval.running import run as run_plan

    planned = plan(find(benchmark), data, split, _listed(subjects), limit)
    names = _listed(strategies)
    with CoLM.from_team(team) as colm, Progressing(len(planned.items) * len(names)) as progress:
        answered = sum(
            progress.count(trace) for trace in run_plan(colm, planned, names, out, concurrency=concurrency, fresh=fresh)
        )
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
    from eval.report.write import write_report

    for path in write_report(runs, out, rule):
        typer.echo(path)


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def main() -> None:
    """Exit codes: 0 done, 1 a run that could not answer, 2 bad input or configuration."""
    try:
        app(standalone_mode=True)
    except (ColmError, ImageError) as error:
        typer.echo(f"error: {error}" + (f" – {error.hint}" if error.hint else ""), err=True)
        sys.exit(2)
