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
    table = score_replies(chosen, items, read_predictions(predictions), rule, partial=partial)
    if as_json:
        typer.echo(json.dumps(table_as_json(table), indent=1))
    else:
        console = Console()
        for part in tables_for_people(chosen, table):
            console.print(part)


def main() -> None:
    """Exit codes: 0 done, 1 a run that could not answer, 2 bad input or configuration."""
    try:
        app(standalone_mode=True)
    except (ColmError, ImageError) as error:
        typer.echo(f"error: {error}" + (f" – {error.hint}" if error.hint else ""), err=True)
        sys.exit(2)
