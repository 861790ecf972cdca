"""The command that trains the pocket team from scratch: `python -m colm_vl.pocket.training.train`.

README.md in this folder says how to resume, check the result, and replace the weights in the package.
"""

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
from colm_vl.pocket.training.stages import STAGES, NotReady, Plan, Stage, TrainingRun, concerns

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
    guide_or_refine={
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
"""Groups of stages. Within a group, a member can start the next stage before the others have finished."""
BY_LENGTH = ("shapes", "server", "charts", "digits")
"""The members, those with the longest stages first, to reduce idle time at the end."""

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


class Device(StrEnum):
    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


@app.command()
def main(
    out: Annotated[
        Path, typer.Option(help="Folder for checkpoints, corpus and weights. A later run resumes from it.")
    ] = Path("pocket-run"),
    stage: Annotated[list[str] | None, typer.Option(help="Run only this stage. Repeatable.")] = None,
    member: Annotated[list[str] | None, typer.Option(help="Train only this member. Repeatable.")] = None,
    device: Annotated[Device, typer.Option(help="auto: a GPU if there is one.")] = Device.AUTO,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Members trained at the same time. Default: one per core, or one on a GPU."),
    ] = None,
    scale: Annotated[
        float, typer.Option(min=0.0005, help="Factor for the length of all stages: 0.01 for a test.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of the initial weights and the training pictures.")] = 7,
) -> None:
    """Train the four tiny models of the pocket team from scratch on drawn pictures and the train split of easy-VQA.

    The stages, in order:

    - **sight**: pre-train two vision towers with temporary heads;
    - **see**: each member learns to describe pictures and answer questions about them;
    - **draft**: the same, and reading artificial drafts and guidance;
    - **speak**: the clients write drafts for new training pictures;
    - **guide**: the server learns to write guidance for some of these drafts, and writes it for the others;
    - **refine**: the clients learn to refine their drafts with this guidance;
    - **save**: write `OUT/weights/<member>/`, folders that transformers and vLLM can load.

    To resume an interrupted run, start it again with the same options. One to two minutes of work are lost.
    """
    stages = _known(stage, STAGES, "stage")
    members = _known(member, BY_LENGTH, "member")
    where = _device(device)
    cores = os.cpu_count() or 1
    side_by_side = jobs or (cores if where.type == "cpu" else 1)
    run = TrainingRun(out, where, PLAN.scaled(scale) if scale != 1 else PLAN, seed)
    for group in TOGETHER:
        chosen = tuple(each for each in group if each in stages)
        taking_part = [name for name in members if any(concerns(each, MEMBERS[name]) for each in chosen)]
        if not taking_part:
            continue
        workers = min(side_by_side, len(taking_part))
        with ProcessPoolExecutor(workers, get_context("spawn"), _prepare, (max(1, cores // workers),)) as pool:
            under_way = {pool.submit(_work, run, chosen, name): name for name in taking_part}
            for job in as_completed(under_way):
                if (error := job.exception()) is not None:
                    pool.shutdown(wait=False, cancel_futures=True)
                    _give_up(under_way[job], error)


def _give_up(name: str, error: BaseException) -> NoReturn:
    """Report the error immediately: the command ends only after other members have finished their stages."""
    if isinstance(error, NotReady):
        raise typer.BadParameter(str(error))
    typer.echo(f"error: the training of {name} failed; waiting for running stages of other members", err=True)
    raise error


def _known(wanted: Sequence[str] | None, known: Sequence[str], what: str) -> tuple[str, ...]:
    """The names that are wanted, in the order of `known`."""
    unknown = sorted(set(wanted or ()) - set(known))
    if unknown:
        raise typer.BadParameter(f"no {what} is called {unknown[0]!r}: expected one of {', '.join(known)}")
    return tuple(name for name in known if not wanted or name in wanted)


def _prepare(threads: int) -> None:
    """Initialize a worker process."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%X")
    torch.set_num_threads(threads)


def _work(run: TrainingRun, stages: Sequence[Stage], name: str) -> None:
    for stage in stages:
        run.run_stage(stage, MEMBERS[name])


def _device(wanted: Device) -> torch.device:
    if wanted is Device.AUTO:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(wanted.value)


if __name__ == "__main__":
    app()
