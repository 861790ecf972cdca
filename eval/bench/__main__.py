"""`python -m eval.bench`: measure, show, and with --write put the figures into BENCHMARKS.md."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from colm_vl.errors import ColmError
from colm_vl.pocket import team_file

from . import calls as calls_
from . import endpoints
from .figures import Figure, write

app = typer.Typer(
    name="eval.bench",
    help="How fast the machinery is, apart from the models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

WriteOption = Annotated[bool, typer.Option("--write", help="Put the figures into BENCHMARKS.md here.")]


@app.command()
def throughput(
    questions: Annotated[int, typer.Option(min=1)] = 2400,
    save: WriteOption = False,
) -> None:
    """Questions a second where every endpoint is kept busy."""
    _finish(endpoints.throughput(questions), f"throughput --questions {questions}", save)


@app.command()
def calls(
    questions: Annotated[int, typer.Option(min=1, help="In each of five rounds.")] = 400,
    save: WriteOption = False,
) -> None:
    """What a call costs, beside the openai SDK's loop and a plain aiohttp loop."""
    _finish(calls_.calls(questions), f"calls --questions {questions}", save)


@app.command()
def overhead(
    questions: Annotated[int, typer.Option(min=1)] = 100,
    save: WriteOption = False,
) -> None:
    """What a single question takes beyond its three calls."""
    _finish(endpoints.overhead(questions), f"overhead --questions {questions}", save)


@app.command()
def memory(
    questions: Annotated[int, typer.Option(min=1)] = 10_000,
    save: WriteOption = False,
) -> None:
    """Memory over a long batch of large pictures, and how often each is decoded and encoded."""
    _finish(endpoints.memory(questions), f"memory --questions {questions}", save)


@app.command()
def local(
    model: Annotated[
        Path | None, typer.Option(help="A folder with a small model; without it, one of the pocket team's.")
    ] = None,
    questions: Annotated[int, typer.Option(min=1)] = 96,
    at_once: Annotated[int, typer.Option(min=1)] = 16,
    save: WriteOption = False,
) -> None:
    """What batching gains for a model in this process."""
    from .local import batching

    named = f" --model {model.name}" if model else ""
    folder = model or team_file().parent / "weights" / "shapes"
    _finish(batching(folder, questions, at_once), f"local --questions {questions} --at-once {at_once}{named}", save)


def _finish(figures: Sequence[Figure], command: str, save: bool) -> None:
    table = Table(header_style="bold")
    for title in ("what", "measured", "wanted", "how"):
        table.add_column(title, overflow="fold")
    for figure in figures:
        table.add_row(figure.name, figure.value, figure.wanted, figure.how, style="red" if figure.missed else None)
    Console().print(table)
    if save:
        write(Path("BENCHMARKS.md"), figures, f"python -m eval.bench {command}", _machine())
    if any(figure.missed for figure in figures):
        raise typer.Exit(1)


def _machine() -> str:
    """The machine in words, and when."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = f", load average {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return (
        f"{cores} cores ({platform.machine()}), Python {platform.python_version()}{load}, {datetime.now(UTC):%Y-%m-%d}"
    )


def main() -> None:
    try:
        app()
    except ColmError as error:
        words = f"error: {error}" + (f" ({error.hint})" if error.hint else "")
        Console(stderr=True, soft_wrap=True).print(Text(words))  # a hint's brackets are no markup
        sys.exit(2)


if __name__ == "__main__":
    main()
