"""Measures batches on a Ray cluster of this machine, over stub endpoints: throughput, cost, and the driver's memory."""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from colm_vl import BatchStats, CoLM, Query, RayOptions, Team
from colm_vl.extras import require

from .endpoints import CLIENTS, Memory, team_at
from .figures import Figure
from .stub import endpoints

_LATENCY = 0.5
_IN_FLIGHT = 16


class _Run(NamedTuple):
    per_second: float
    cpu: float
    """CPU time of the driver, per question, in seconds."""


def ray_cluster(questions: int, memory: int) -> Sequence[Figure]:
    """`memory` is the number of questions over which the driver's memory is watched; 0 to leave this out."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = require("ray", "ray")
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        return [*_speed(questions), *(_memory(memory) if memory else ())]
    finally:
        ray.shutdown()


def _speed(questions: int) -> Sequence[Figure]:
    with endpoints(CLIENTS + 1, latency=_LATENCY, places=1000) as urls, CoLM(team_at(urls, places=1000)) as colm:
        one, two = (_run(colm, count * questions, RayOptions("auto", workers=count, cpus=1)) for count in (1, 2))
        here = _run(colm, questions, None)
    how = (
        f"{questions:,} questions a worker over stub endpoints of {_LATENCY:g} s, {_IN_FLIGHT} at a time in each: the "
        "endpoints' time limits a worker, not its CPU"
    )
    ratio = two.per_second / one.per_second
    extra = 1000 * (one.cpu - here.cpu)
    return [
        Figure(
            "throughput of two Ray workers, compared with one",
            f"{ratio:.2f} times",
            "≥ 1.8 times",
            ratio >= 1.8,
            f"{how}; {one.per_second:.1f} and {two.per_second:.1f} questions/s, {here.per_second:.1f} in one process",
        ),
        Figure(
            "CPU time of Ray per question",
            f"{extra:.1f} ms",
            "–",
            None,
            f"{how}; user and system time of the driver and of all processes of Ray, less that of the batch in one "
            "process",
        ),
    ]


def _run(colm: CoLM, count: int, ray: RayOptions | None) -> _Run:
    asked = [Query(f"How many dots are there in picture {time.monotonic_ns()}-{number}?") for number in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        cpu, moments = [], []
        for number, _ in enumerate(colm.batch(asked, Path(folder) / "out", concurrency=_IN_FLIGHT, ray=ray), 1):
            if number in (1, count):  # workers have been started, and are not yet ended
                cpu.append(_cpu(of_ray=ray is not None))
                moments.append(time.monotonic())
    return _Run((count - 1) / (moments[1] - moments[0]), (cpu[1] - cpu[0]) / (count - 1))


def _cpu(*, of_ray: bool) -> float:
    """The CPU time of this process and of those of Ray, in seconds."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    return own.ru_utime + own.ru_stime + (_of_ray() if of_ray else 0.0)


def _of_ray() -> float:
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text("utf-8", "replace")
            command = (stat.parent / "cmdline").read_text("utf-8", "replace")
        except OSError:  # it has ended
            continue
        if "ray" in command and "pytest" not in command and stat.parent.name != str(os.getpid()):
            fields = text.rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _memory(questions: int) -> Sequence[Figure]:
    client = {"name": "client", "backend": "scripted", "model": "script", "replies": ["Answer: 5\nConfidence: 80"]}
    team = Team.from_dict({"clients": [client], "policy": {"strategy": "vote"}})
    stats = BatchStats()
    with tempfile.TemporaryDirectory() as folder, CoLM(team) as colm:
        path = Path(folder) / "questions.jsonl"
        path.write_text("".join(f'{{"question": "How many in {number}?"}}\n' for number in range(questions)), "utf-8")
        with Memory(stats) as used:
            for _ in colm.batch(path, Path(folder) / "out", ray=RayOptions("auto", workers=2, cpus=1), stats=stats):
                pass
    return [
        Figure(
            "growth of the Ray driver's resident memory",
            f"{used.growth / 1e6:.0f} MB",
            "≤ 200 MB",
            used.growth <= 200e6,
            f"{questions:,} questions to a scripted client in two workers; from {used.base / 1e6:.0f} MB to a peak of "
            f"{used.peak / 1e6:.0f} MB",
        )
    ]
