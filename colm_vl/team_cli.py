"""The commands `colm-vl team check` and `colm-vl team plan`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from colm_vl import CoLM, Team, strategies
from colm_vl.display import HealthProgress, health_table
from colm_vl.memory_plan import plan_memory
from colm_vl.memory_tables import plan_tables, read_bytes, read_size
from colm_vl.terminal import NOT_ANSWERED, DebugOption, json_text, set_up_logging

app = typer.Typer(no_args_is_help=True, help="Validate team files.")


@app.command("check")
def check(
    file: Annotated[Path | None, typer.Argument(help="A team file. Default: the pocket team.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all results as JSON, and nothing else.")] = False,
    debug: DebugOption = False,
) -> None:
    """Ask every member an easy question, and report which members work, what they support, and how to fix the others.

    [bold]sees[/bold]: whether the member named the colours of two pictures.
    [bold]format[/bold]: the format in which its replies can be read.
    [bold]weights[/bold]: the memory that the weights of a local model need.
    """
    set_up_logging(debug)
    team = Team.load(file) if file else Team.pocket()
    # Every team can run `vote`, so members are checked even if the team's own strategy needs a missing server.
    with (
        CoLM(team.with_policy(strategy="vote")) as colm,
        HealthProgress(Console(stderr=True), team.members) as progress,
    ):
        rows = colm.check(progress.done)
    if as_json:
        typer.echo(json_text([row.to_dict() for row in rows]))
    else:
        Console().print(health_table(rows))
    strategies.choose(team)
    if not all(row.works for row in rows):
        raise typer.Exit(NOT_ANSWERED)


@app.command("plan")
def plan_memory_of(
    file: Annotated[Path | None, typer.Argument(help="A team file. Default: the pocket team.")] = None,
    memory: Annotated[
        str | None,
        typer.Option(help="Memory of another machine for the models, such as 24GB. Default: what is free here."),
    ] = None,
    pictures: Annotated[int, typer.Option(min=0, help="Number of pictures in a question.")] = 1,
    size: Annotated[str, typer.Option(help="Width and height of the pictures in pixels.")] = "1024x1024",
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON, and nothing else.")] = False,
    debug: DebugOption = False,
) -> None:
    """Plan how many local models fit in memory together, at which quantization, and with how many requests at once.

    Nothing is loaded or downloaded: a model's configuration and processor must be on this machine.

    [bold]tokens[/bold]: those of the longest request, with replies as long as the policy allows.
    [bold]of pictures[/bold]: how many of them are pictures.
    [bold]a request[/bold]: the memory for one request, for its keys and values and the largest tensors.
    [bold]requests each[/bold]: how many requests each loaded model can answer at the same time.
    """
    set_up_logging(debug)
    team = Team.load(file) if file else Team.pocket()
    free = None if memory is None else read_bytes(memory)
    plan = plan_memory(team, size=read_size(size), pictures=pictures, memory=free)
    if as_json:
        typer.echo(json_text(plan.to_dict()))
    else:
        for part_of_plan in plan_tables(plan):
            Console().print(part_of_plan)
    if not plan.known or (plan.chosen is not None and plan.chosen.max_loaded == 0):
        raise typer.Exit(NOT_ANSWERED)
