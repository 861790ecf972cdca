"""Options of the command line that batches and evaluations have in common."""

from __future__ import annotations

from typing import Annotated

import typer

RayOption = Annotated[
    str,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Answer with a Ray cluster: auto (that of this machine, or else this machine alone) or HOST:PORT.",
    ),
]
WorkersOption = Annotated[int | None, typer.Option(min=1, help="With --ray: the number of worker processes.")]
WorkerGpusOption = Annotated[
    float | None, typer.Option("--worker-gpus", min=0, help="With --ray: GPUs of each worker, such as 0.5.")
]
WorkerCpusOption = Annotated[
    float | None, typer.Option("--worker-cpus", min=0, help="With --ray: CPUs of each worker.")
]
