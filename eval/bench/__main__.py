"""The command `python -m eval.bench`: measures, prints the figures and, with --write, updates BENCHMARKS.md."""

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
from . import endpoints, ray_cluster
from . import sharded as sharded_
from .figures import Figure, write

app = typer.Typer(
    name="eval.bench",
    help="Measure the speed and memory use of colm-vl itself, without real models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

QuestionsOption = Annotated[int, typer.Option(min=1, help="Number of questions.")]
WriteOption = Annotated[bool, typer.Option("--write", help="Update BENCHMARKS.md in the current folder.")]


@app.command()
def throughput(
    questions: QuestionsOption = 2400,
    save: WriteOption = False,
) -> None:
    """Measure questions per second while every endpoint is busy."""
    _finish(endpoints.throughput(questions), f"throughput --questions {questions}", save)


@app.command()
def calls(
    questions: Annotated[int, typer.Option(min=1, help="Number of questions in each of five rounds.")] = 400,
    save: WriteOption = False,
) -> None:
    """Measure the CPU time per call, and compare it with plain loops over aiohttp and over the openai SDK."""
    _finish(calls_.calls(questions), f"calls --questions {questions}", save)


@app.command()
def overhead(
    questions: QuestionsOption = 100,
    save: WriteOption = False,
) -> None:
    """Measure how much longer a single question takes than its three calls in a row."""
    _finish(endpoints.overhead(questions), f"overhead --questions {questions}", save)


@app.command()
def memory(
    questions: QuestionsOption = 10_000,
    save: WriteOption = False,
) -> None:
    """Measure the memory of a long batch of large pictures, and how often each picture is decoded and encoded."""
    _finish(endpoints.memory(questions), f"memory --questions {questions}", save)


@app.command()
def shards(
    questions: QuestionsOption = 100_000,
    save: WriteOption = False,
) -> None:
    """Measure the merge of shards, and resuming a finished run."""
    _finish(sharded_.sharded(questions), f"shards --questions {questions}", save)


@app.command()
def ray(
    questions: Annotated[int, typer.Option(min=10, help="Number of questions for each worker.")] = 300,
    memory: Annotated[int, typer.Option(min=0, help="Number of questions for the memory; 0: none.")] = 100_000,
    save: WriteOption = False,
) -> None:
    """Measure batches on a Ray cluster of this machine: throughput of two workers, cost, and memory of the driver."""
    figures = ray_cluster.ray_cluster(questions, memory)
    _finish(figures, f"ray --questions {questions} --memory {memory}", save)


@app.command()
def serve(
    seconds: Annotated[int, typer.Option(min=2, help="Duration of the measurement of fairness, in seconds.")] = 60,
    disconnects: Annotated[int, typer.Option(min=1, help="Number of clients that disconnect.")] = 1000,
    clients: Annotated[int, typer.Option(min=1, help="Number of concurrent streaming clients.")] = 500,
    waves: Annotated[int, typer.Option(min=1, help="Number of requests of each streaming client.")] = 4,
    only: Annotated[str, typer.Option(help="Measure only fairness, or only load.")] = "",
    save: WriteOption = False,
) -> None:
    """Measure how fairly colm-vl serve shares its server, its quotas, and its costs with many streaming clients."""
    from .fairness import fairness
    from .load import load

    if only not in ("", "fairness", "load"):
        raise typer.BadParameter("expected fairness or load", param_hint="--only")
    missed = False
    if only != "load":
        options = f"--seconds {seconds} --disconnects {disconnects}"
        missed |= _show(fairness(seconds, disconnects), f"serve --only fairness {options}", save)
    if only != "fairness":
        missed |= _show(load(clients, waves), f"serve --only load --clients {clients} --waves {waves}", save)
    if missed:
        raise typer.Exit(1)


@app.command()
def capacity(
    questions: Annotated[int, typer.Option(min=20, help="Number of questions of the run without load.")] = 200,
    seconds: Annotated[int, typer.Option(min=5, help="Duration of the three loads, in seconds.")] = 400,
    plot: Annotated[Path | None, typer.Option(help="A PNG file for measured and simulated response times.")] = None,
    save: WriteOption = False,
) -> None:
    """Compare the simulation of `colm-vl eval capacity` with stub endpoints at three loads."""
    from .capacity import validate

    found = validate(questions, seconds)
    if plot is not None:
        plot.write_bytes(found.plot())
    _finish(found.figures, f"capacity --questions {questions} --seconds {seconds}", save)


@app.command()
def local(
    model: Annotated[
        Path | None, typer.Option(help="A folder with a small model. Default: a model of the pocket team.")
    ] = None,
    questions: QuestionsOption = 96,
    at_once: Annotated[int, typer.Option(min=1, help="Number of concurrent requests.")] = 16,
    save: WriteOption = False,
) -> None:
    """Measure how much faster a local model is with batching."""
    from .local import batching

    named = f" --model {model.name}" if model else ""
    folder = model or team_file().parent / "weights" / "shapes"
    _finish(batching(folder, questions, at_once), f"local --questions {questions} --at-once {at_once}{named}", save)


@app.command()
def prefetch(
    url: Annotated[
        str, typer.Option(help="Base URL of a running vLLM with a vision model. Default: a model in this process.")
    ] = "",
    model: Annotated[
        Path | None, typer.Option(help="A folder with a vision model for this process. Default: random weights.")
    ] = None,
    pairs: Annotated[int, typer.Option(min=1, help="Number of questions with prefetch, and of those without.")] = 8,
    drafting: Annotated[float, typer.Option(min=0.0, help="Seconds that the clients take for a draft.")] = 6.0,
    tokens: Annotated[int, typer.Option(min=1, help="Length of the guidance.")] = 32,
) -> None:
    """Measure how much sooner guidance comes with prefetch, and whether replies stay the same."""
    from . import prefetch as prefetch_

    if url and model:
        raise typer.BadParameter("expected --url or --model, not both", param_hint="--model")
    found = (
        prefetch_.at_vllm(url, pairs, drafting, tokens) if url else prefetch_.in_process(model, pairs, drafting, tokens)
    )
    _finish(found, "prefetch", save=False)


@app.command()
def stragglers(
    questions: QuestionsOption = 20,
    late: Annotated[int, typer.Option(min=1, help="Number of calls that are cancelled as late.")] = 1000,
    save: WriteOption = False,
) -> None:
    """Measure what a client that is 20 times slower than the others costs, with a quorum."""
    from .stragglers import stragglers as measured

    _finish(measured(questions, late), f"stragglers --questions {questions} --late {late}", save)


@app.command("model")
def write_model(folder: Annotated[Path, typer.Argument(help="A new folder.")]) -> None:
    """Write the vision-language model with random weights that `prefetch` uses, for instance to serve it with vLLM."""
    from . import random_model

    Console().print(f"{folder}: {random_model.write(folder) / 1e6:.0f} million parameters")


@app.command()
def plan(save: WriteOption = False) -> None:
    """Compare the memory that `team plan` expects of a local model with what it takes, also if quantized."""
    from .planned import planned

    _finish(planned(), "plan", save)


def _finish(figures: Sequence[Figure], command: str, save: bool) -> None:
    if _show(figures, command, save):
        raise typer.Exit(1)


def _show(figures: Sequence[Figure], command: str, save: bool) -> bool:
    """Print the figures, and write them if wanted. Returns whether a target is missed."""
    table = Table(header_style="bold")
    for title in ("what", "measured", "target", "how"):
        table.add_column(title, overflow="fold")
    for figure in figures:
        table.add_row(figure.name, figure.value, figure.target, figure.how, style="red" if figure.missed else None)
    Console().print(table)
    if save:
        write(Path("BENCHMARKS.md"), figures, f"python -m eval.bench {command}", _machine())
    return any(figure.missed for figure in figures)


def _machine() -> str:
    """A description of the machine, with the date."""
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
        Console(stderr=True, soft_wrap=True).print(Text(words))  # a `Text`, because brackets in a hint are not markup
        sys.exit(2)


if __name__ == "__main__":
    main()
