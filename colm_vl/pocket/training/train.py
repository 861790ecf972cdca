"""Train the pocket team: `python -m colm_vl.pocket.training.train`, one command from nothing to weights."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from enum import StrEnum
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, NoReturn

import torch
import typer

from colm_vl.pocket.roster import MEMBERS
from colm_vl.pocket.training.learning import Schedule
from colm_vl.pocket.training.workshop import STAGES, NotReady, Plan, Stage, Workshop, concerns

PLAN = Plan(
    sight={"shapes": Schedule(4500, rate=1.5e-3, floor=0.1), "digits": Schedule(800, floor=0.1)},
    see={
        "shapes": Schedule(450, floor=0.5),
        "charts": Schedule(600, floor=0.5),
        "digits": Schedule(250, floor=0.5),
        "server": Schedule(500, floor=0.5),
    },
    draft={
        "shapes": Schedule(1200, rate=8e-4, warmup=30, floor=0.03),
        "charts": Schedule(450, rate=8e-4, warmup=30, floor=0.03),
        "digits": Schedule(700, rate=8e-4, warmup=30, floor=0.03),
        "server": Schedule(450, rate=8e-4, warmup=30, floor=0.1),
    },
    listen={
        "shapes": Schedule(420, rate=6e-4, warmup=30, floor=0.02),
        "charts": Schedule(480, rate=6e-4, warmup=30, floor=0.02),
        "digits": Schedule(380, rate=6e-4, warmup=30, floor=0.02),
        "server": Schedule(1000, rate=7e-4, warmup=30, floor=0.02),
    },
)
TOGETHER: tuple[tuple[Stage, ...], ...] = (
    ("sight",),
    ("see", "draft", "speak"),
    ("guide",),
    ("refine", "save"),
)
"""Stages of which a member may start the next before the others have ended theirs."""
BY_LENGTH = ("server", "charts", "shapes", "digits")
"""The members whose stages take longest first, so that no core waits long at the end."""

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


class Device(StrEnum):
    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


@app.command()
def main(
    out: Annotated[
        Path, typer.Option(help="Where checkpoints, corpus and weights go; a later run goes on from there.")
    ] = Path("pocket-run"),
    stage: Annotated[list[str] | None, typer.Option(help="Only this stage; repeat for several.")] = None,
    member: Annotated[list[str] | None, typer.Option(help="Only this member; repeat for several.")] = None,
    device: Annotated[Device, typer.Option(help="auto: a GPU when there is one.")] = Device.AUTO,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Members trained side by side; when left out, one a core or one on a GPU.")
    ] = None,
    scale: Annotated[float, typer.Option(min=0.0005, help="Times the length of everything: 0.01 to try it out.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Seeds weights and the choice of training pictures.")] = 7,
) -> None:
    """Train the four tiny models of the pocket team on drawn pictures, from nothing.

    The stages build on each other:

    - **sight**: two vision towers learn to see, with throw-away heads;
    - **see**: each member answers questions about pictures after describing them;
    - **draft**: the same, and reading made-up drafts and guidance;
    - **speak**: the clients draft on new training pictures;
    - **guide**: the server learns to write guidance on those drafts, and guides the rest;
    - **refine**: the clients learn what to make of that guidance;
    - **save**: writes `OUT/weights/<member>/`, folders that transformers and vLLM open.

    A killed run loses a minute, or two while drafts are written: start it again with the same options.
    """
    stages = _known(stage, STAGES, "stage")
    members = _known(member, BY_LENGTH, "member")
    where = _device(device)
    cores = os.cpu_count() or 1
    side_by_side = jobs or (cores if where.type == "cpu" else 1)
    workshop = Workshop(out, where, PLAN.scaled(scale) if scale != 1 else PLAN, seed)
    for group in TOGETHER:
        chosen = tuple(each for each in group if each in stages)
        taking_part = [name for name in members if any(concerns(each, MEMBERS[name]) for each in chosen)]
        if not taking_part:
            continue
        workers = min(side_by_side, len(taking_part))
        with ProcessPoolExecutor(workers, get_context("spawn"), _prepare, (max(1, cores // workers),)) as pool:
            under_way = {pool.submit(_work, workshop, chosen, name): name for name in taking_part}
            for job in as_completed(under_way):
                if (error := job.exception()) is not None:
                    pool.shutdown(wait=False, cancel_futures=True)
                    _give_up(under_way[job], error)


def _give_up(name: str, error: BaseException) -> NoReturn:
    """Told at once: members that are in the middle of a stage end it before the command does."""
    if isinstance(error, NotReady):
        raise typer.BadParameter(str(error))
    typer.echo(f"error: the training of {name} failed; what the others have begun is finished first", err=True)
    raise error


def _known(wanted: Sequence[str] | None, known: Sequence[str], what: str) -> tuple[str, ...]:
    """Those of `known` that are wanted, in its order."""
    unknown = sorted(set(wanted or ()) - set(known))
    if unknown:
        raise typer.BadParameter(f"no {what} is called {unknown[0]!r}: expected one of {', '.join(known)}")
    return tuple(name for name in known if not wanted or name in wanted)


def _prepare(threads: int) -> None:
    """In each process that trains."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%X")
    torch.set_num_threads(threads)


def _work(workshop: Workshop, stages: Sequence[Stage], name: str) -> None:
    for stage in stages:
        workshop.run(stage, MEMBERS[name])


def _device(wanted: Device) -> torch.device:
    if wanted is Device.AUTO:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(wanted.value)


if __name__ == "__main__":
    app()
