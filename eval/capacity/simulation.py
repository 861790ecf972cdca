"""A discrete-event simulation of many clients and a number of servers, with SimPy.

Questions arrive at random (a Poisson process) from all clients together, and each takes the times of a measured
question, drawn at random. Servers share one queue, in the order of arrival. Each client is a device that makes one call
at a time; a question takes one device of each kind at random: the user's own, and those of others that help.
"""

from __future__ import annotations

import math
import random
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from colm_vl.extras import require

from ..statistics import CONFIDENCE, Interval
from .measured import ClientCall, Step

if TYPE_CHECKING:
    import simpy

BATCHES = 10
QUESTIONS = 20_000
_WARM_UP = 0.2
_MOST_BUSY = 0.99


@dataclass(frozen=True, slots=True)
class Load:
    """`arrivals` are questions per second of all `clients` (devices) together."""

    arrivals: float
    clients: int


@dataclass(frozen=True, slots=True)
class Percentile:
    """In seconds, with the 95 % interval from the percentiles of batches of questions."""

    value: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class Simulated:
    """Response times of `questions` questions, after `warm_up` others. Busy: the share of the time in use."""

    p50: Percentile
    p95: Percentile
    p99: Percentile
    server_busy: float
    client_busy: float
    questions: int
    warm_up: int


def simulate(
    work: Sequence[Sequence[Step]],
    kinds: Sequence[str],
    load: Load,
    places: int,
    *,
    questions: int = QUESTIONS,
    seed: int = 0,
) -> Simulated:
    """`work` are the steps of the measured questions, `kinds` the names of the clients, and `places` the number of
    requests that all servers together answer at the same time.

    At least `questions` questions are simulated, as many as arrive in ten times the response time without waiting, and
    as many as arrive in twenty times the time in which a busy queue forgets its length. That takes about 1 / (1 - b)^2
    service times of all places together, where b is the share of the time for which they are busy.
    """
    alone = sum(map(unloaded, work)) / len(work)
    busy = min(load.arrivals * server_seconds(work) / places, _MOST_BUSY)
    count = max(questions, math.ceil(10 * alone * load.arrivals), math.ceil(20 * busy / (1 - busy) ** 2))
    return _Simulation(work, kinds, load, places, count, seed).run()


def server_seconds(work: Sequence[Sequence[Step]]) -> float:
    """Per question."""
    return sum(sum(step.server) for steps in work for step in steps) / len(work)


def unloaded(steps: Sequence[Step]) -> float:
    """The response time in seconds if nothing waits."""
    return sum(max([*(call.seconds for call in step.clients), *step.server], default=0.0) for step in steps)


class _Simulation:
    def __init__(
        self, work: Sequence[Sequence[Step]], kinds: Sequence[str], load: Load, places: int, count: int, seed: int
    ) -> None:
        engine = require("simpy", "eval")
        self._work = work
        self._load = load
        self._places = places
        self._count, self._warm_up = count, math.ceil(_WARM_UP * count)
        self._random = random.Random(seed)
        self._environment: simpy.Environment = engine.Environment()
        self._servers: simpy.Resource = engine.Resource(self._environment, capacity=places)
        self._devices = _Devices(kinds, load.clients // len(kinds), self._random)
        self._server_seconds = 0.0
        self._times = [0.0] * count

    def run(self) -> Simulated:
        window: float = self._environment.run(until=self._environment.process(self._arrive()))  # type: ignore[assignment]
        server_busy = self._server_seconds / (self._places * window)
        client_busy = self._devices.seconds / (self._load.clients * window)
        self._environment.run()  # until the last question is answered
        p50, p95, p99 = (_percentile(self._times, percent) for percent in (50, 95, 99))
        return Simulated(p50, p95, p99, server_busy, client_busy, self._count, self._warm_up)

    def _arrive(self) -> Generator[simpy.Event, Any, float]:
        """Returns the time between the first and the last arrival after the warm-up."""
        begun = 0.0
        for number in range(-self._warm_up, self._count):
            yield self._environment.timeout(self._random.expovariate(self._load.arrivals))
            if number == 0:
                begun, self._server_seconds, self._devices.seconds = self._environment.now, 0.0, 0.0
            self._environment.process(self._answer(number, self._random.choice(self._work)))
        return self._environment.now - begun

    def _answer(self, number: int, steps: Sequence[Step]) -> Generator[simpy.Event, Any, None]:
        environment, devices = self._environment, self._devices.draw()
        begun = environment.now
        for step in steps:
            ready = max((self._devices.use(devices, call, environment.now) for call in step.clients), default=0.0)
            for seconds in step.server:
                with self._servers.request() as place:
                    yield place
                    yield environment.timeout(seconds)
                self._server_seconds += seconds
            if ready > environment.now:
                yield environment.timeout(ready - environment.now)
        if number >= 0:
            self._times[number] = environment.now - begun


class _Devices:
    """`count` devices of each kind, each of which makes one call at a time, in the order of arrival. Only those that
    were used take memory."""

    def __init__(self, kinds: Sequence[str], count: int, random: random.Random) -> None:
        self.seconds = 0.0
        self._kinds = kinds
        self._count = count
        self._random = random
        self._free: dict[tuple[str, int], float] = {}

    def draw(self) -> Mapping[str, int]:
        """A device of each kind, for one question."""
        return {kind: self._random.randrange(self._count) for kind in self._kinds}

    def use(self, devices: Mapping[str, int], call: ClientCall, now: float) -> float:
        """When the call will have ended."""
        device = (call.client, devices[call.client])
        self.seconds += call.seconds
        self._free[device] = max(now, self._free.get(device, 0.0)) + call.seconds
        return self._free[device]


def _percentile(times: Sequence[float], percent: float) -> Percentile:
    """The interval is that of the mean of the percentiles of batches (Student's t), around the percentile of all."""
    numpy, stats = require("numpy", "eval"), require("scipy.stats", "eval")
    value = float(numpy.percentile(times, percent))
    batches = [numpy.percentile(batch, percent) for batch in numpy.array_split(times, BATCHES)]
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, BATCHES - 1))
    half = quantile * float(numpy.std(batches, ddof=1)) / math.sqrt(BATCHES)
    return Percentile(value, Interval(value - half, value + half))
