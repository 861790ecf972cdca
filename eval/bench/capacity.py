"""Compares the simulation of `colm-vl eval capacity` with stub endpoints under the same load."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from colm_vl import AsyncCoLM, Query, Team, evaluate

from ..capacity.measured import Measured, Step, measured
from ..capacity.simulation import Load, Simulated, server_seconds, simulate
from ..durations import Percentiles
from ..report.plots import arrivals_plot
from ..run_folder import read_evaluation
from .endpoints import team_at
from .figures import Figure
from .stub import endpoints

LOADS = (0.3, 0.6, 0.9)
CLIENT_SECONDS = (0.125, 0.25)
SERVER_SECONDS = 0.5
PLACES = 4
SPREAD = 0.5
_MANY = 1000
_WARM_UP = 0.1
_CURVE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93)


@dataclass(frozen=True, slots=True)
class Comparison:
    """At a share `load` of what the server can answer, which is `arrivals` questions per second."""

    load: float
    arrivals: float
    measured: Percentiles
    simulated: Simulated

    @property
    def error(self) -> float:
        """How much greater the simulated 95th percentile is, as a share of the measured one."""
        return self.simulated.p95.value / self.measured.p95 - 1


@dataclass(frozen=True, slots=True)
class Validation:
    """`work` are the measured questions, and `capacity` is how many of them the server can answer per second."""

    work: Sequence[Sequence[Step]]
    capacity: float
    compared: Sequence[Comparison]

    @property
    def figures(self) -> Sequence[Figure]:
        return [_figure(one, len(self.work)) for one in self.compared]

    def plot(self) -> bytes:
        arrivals = [load * self.capacity for load in _CURVE]
        curve = [(rate, _simulated(self.work, rate).p95.value) for rate in arrivals]
        return arrivals_plot({1: curve}, measured=[(one.arrivals, one.measured.p95) for one in self.compared])


def validate(questions: int, seconds: float, loads: Sequence[float] = LOADS) -> Validation:
    """Measure a run of `questions` questions without load, and then questions that arrive at random for `seconds`.

    Each load has endpoints of its own, so that all can be measured at the same time. The simulation is given the times
    of the run, and not those under load.
    """
    with ExitStack() as stack:
        teams = [stack.enter_context(_team()) for _ in loads]
        work = _work(_run(teams[0], questions))
        capacity = PLACES / server_seconds(work)
        arrivals = [load * capacity for load in loads]
        times = asyncio.run(_open_loops(teams, arrivals, seconds))
    return Validation(
        work,
        capacity,
        [
            Comparison(load, rate, found, _simulated(work, rate))
            for load, rate, found in zip(loads, arrivals, times, strict=True)
        ],
    )


@contextmanager
def _team() -> Iterator[Team]:
    """Clients have a device for each question, and the server answers `PLACES` requests at a time."""
    with (
        endpoints(len(CLIENT_SECONDS), latency=CLIENT_SECONDS, places=_MANY, spread=SPREAD) as clients,
        endpoints(1, latency=SERVER_SECONDS, places=PLACES, spread=SPREAD) as server,
    ):
        yield team_at([*clients, *server], places=_MANY)


def _run(team: Team, questions: int) -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        rows = [_question(f"run {number}") for number in range(questions)]
        evaluate(rows, team=team, strategies=["colm"], out=folder, concurrency=PLACES)
        return measured(read_evaluation(Path(folder)), "colm", {})


def _work(found: Measured) -> list[Sequence[Step]]:
    return [question.taken(asked=True) for question in found.questions]


def _simulated(work: Sequence[Sequence[Step]], arrivals: float) -> Simulated:
    kinds = list(dict.fromkeys(call.client for steps in work for step in steps for call in step.clients))
    return simulate(work, kinds, Load(arrivals, _MANY * _MANY), PLACES)


async def _open_loops(teams: Sequence[Team], arrivals: Sequence[float], seconds: float) -> Sequence[Percentiles]:
    return await asyncio.gather(*(_open_loop(team, rate, seconds) for team, rate in zip(teams, arrivals, strict=True)))


async def _open_loop(team: Team, arrivals: float, seconds: float) -> Percentiles:
    """Response times of questions that arrive whether or not earlier ones are answered."""
    drawn, times = random.Random(0), list[float]()

    async def ask(number: int) -> None:
        begun = time.monotonic()
        await colm.ask(_question(f"{arrivals:.3f} {number}"))
        times.append(time.monotonic() - begun)

    async with AsyncCoLM(team) as colm:
        await asyncio.gather(*(colm.ask(_question(f"warm-up {number}")) for number in range(PLACES)))
        begun, due, number = time.monotonic(), 0.0, 0
        async with asyncio.TaskGroup() as group:
            while due < seconds:
                due += drawn.expovariate(arrivals)
                await asyncio.sleep(begun + due - time.monotonic())
                group.create_task(ask(number))
                number += 1
    found = Percentiles.of(times[round(_WARM_UP * len(times)) :])
    assert found is not None
    return found


def _question(name: str) -> Query:
    return Query(f"How many dots are there in picture {name}?", id=name, metadata={"answer": "5"})


def _figure(one: Comparison, questions: int) -> Figure:
    simulated = one.simulated
    return Figure(
        f"simulated 95th percentile at {one.load:.0%} of the server's capacity",
        f"{one.error:+.1%}",
        "within 20 %",
        abs(one.error) <= 0.2,
        f"{simulated.p95.value:.3f} s, compared with {one.measured.p95:.3f} s measured for {one.measured.count:,} "
        f"questions at {one.arrivals:.1f} per second; medians {simulated.p50.value:.3f} and {one.measured.p50:.3f} s, "
        f"99th percentiles {simulated.p99.value:.3f} and {one.measured.p99:.3f} s; stub server of "
        f"{SERVER_SECONDS * 1000:.0f} ms ± {SPREAD:.0%} and {PLACES} places; times from a run of {questions} questions",
    )
