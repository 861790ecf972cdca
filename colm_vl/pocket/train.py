"""Train the pocket team: `python -m colm_vl.pocket.train`, one command from nothing to weights."""

from __future__ import annotations

import logging
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.logging import RichHandler

from colm_vl.pocket.learning import Schedule
from colm_vl.pocket.roster import MEMBERS, SERVER
from colm_vl.pocket.workshop import STAGES, Plan, Workshop

PLAN = Plan(
    sight={"shapes": Schedule(1500, rate=1.5e-3, warmup=50), "digits": Schedule(400, warmup=50)},
    see={
        "shapes": Schedule(480, floor=0.5, batch=24, warmup=40),
        "charts": Schedule(160, floor=0.8, batch=24, warmup=40),
        "digits": Schedule(400, rate=1.2e-3, floor=0.5, batch=24, warmup=40),
        "server": Schedule(130, floor=0.8, batch=24, warmup=40),
    },
    draft={
        "shapes": Schedule(450, floor=0.03, batch=12, warmup=15),
        "charts": Schedule(550, floor=0.03, batch=12, warmup=15),
        "digits": Schedule(450, rate=1.2e-3, floor=0.03, batch=12, warmup=15),
        "server": Schedule(550, floor=0.03, batch=12, warmup=15),
    },
    guide=Schedule(700, rate=8e-4, floor=0.02, warmup=20, batch=20, check_every=115),
    refine={name: Schedule(600, rate=9e-4, floor=0.02, batch=14, warmup=15, check_every=100) for name in MEMBERS},
)

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


class StageName(StrEnum):
    ALL = "all"
    SEE = "see"
    DRAFT = "draft"
    GUIDE = "guide"
    REFINE = "refine"
    SAVE = "save"


class Device(StrEnum):
    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


@app.command()
def main(
    out: Annotated[
        Path, typer.Option(help="Where checkpoints, corpus and weights go; a later run goes on from there.")
    ] = Path("pocket-run"),
    stage: Annotated[StageName, typer.Option(help="One stage alone; those before it must be done.")] = StageName.ALL,
    member: Annotated[list[str] | None, typer.Option(help="Only this member; repeat for several.")] = None,
    device: Annotated[Device, typer.Option(help="auto: a GPU (bfloat16) when there is one.")] = Device.AUTO,
    scale: Annotated[float, typer.Option(min=0.0005, help="Times the length of everything: 0.01 to try it out.")] = 1.0,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; torch's own choice when left out.")] = None,
    seed: Annotated[int, typer.Option(help="Seeds weights and the choice of training pictures.")] = 7,
) -> None:
    """Train the four tiny models of the pocket team on drawn pictures, from nothing.

    The stages build on each other:

    - **see**: each member answers questions about pictures after describing them;
    - **draft**: the same at a falling learning rate;
    - **guide**: the clients draft on new training pictures, and the server learns to write guidance on those drafts;
    - **refine**: the server guides, and the clients learn what to make of its guidance;
    - **save**: writes `OUT/weights/<member>/`, folders that transformers and vLLM open.

    A killed run loses at most a minute: start it again with the same options. To use several cores well, train
    members side by
    side, each with `--threads 1 --stage see --member NAME`; *charts* and *server* start from the sight of *shapes*.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", datefmt="%X", handlers=[RichHandler(show_path=False)])
    names = list(MEMBERS) if member is None else member
    unknown = sorted(set(names) - set(MEMBERS))
    if unknown:
        raise typer.BadParameter(f"no member is called {unknown[0]!r}: expected one of {', '.join(MEMBERS)}")
    if threads is not None:
        torch.set_num_threads(threads)
    workshop = Workshop(out, _device(device), PLAN.scaled(scale) if scale != 1 else PLAN, seed)
    in_order = sorted(names, key=lambda name: name == SERVER.name)
    for each in STAGES:
        if stage in (StageName.ALL, each):
            workshop.run(each, in_order)


def _device(wanted: Device) -> torch.device:
    if wanted is Device.AUTO:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(wanted.value)


if __name__ == "__main__":
    app()
