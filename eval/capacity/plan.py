"""How many servers keep a promised response time, for each gate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from colm_vl.errors import InputError
from colm_vl.extras import require

from ..run_folder import Evaluation
from .choices import GateChoice, gate_choices
from .measured import Measured, Step, measured
from .simulation import Load, Simulated, server_seconds, simulate, unloaded

_IDLE = 0.02
"""With more servers than this share of them has work for, more do not help."""
CURVE_LOADS = (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)


@dataclass(frozen=True, slots=True)
class Promise:
    """95 % of the questions are answered within `p95` seconds, under `load`. A server answers `places` requests at a
    time."""

    load: Load
    p95: float
    places: int = 1


@dataclass(frozen=True, slots=True)
class Servers:
    """A number of servers, and the response times with them."""

    servers: int
    simulated: Simulated


@dataclass(frozen=True, slots=True)
class GatePlan:
    """`needed` is the smallest number of servers that keeps the promise, None if none does; `why` is then the reason.
    `tried` are all numbers that were simulated, in ascending order. `unloaded_p95` is without waiting."""

    gate: GateChoice
    unloaded_p95: float
    needed: Servers | None
    why: str
    tried: tuple[Servers, ...]


@dataclass(frozen=True, slots=True)
class CapacityPlan:
    promise: Promise
    measured: Measured
    gates: tuple[GatePlan, ...]

    @property
    def best(self) -> GatePlan | None:
        """The gate that needs the fewest servers; of several, the one with the highest accuracy, then the fewest server
        calls."""
        kept = [plan for plan in self.gates if plan.needed]
        return min(kept, key=_rank, default=None)


def _rank(plan: GatePlan) -> tuple[int, float, float]:
    assert plan.needed is not None
    return plan.needed.servers, -(plan.gate.accuracy or 0.0), plan.gate.share_asked


def plan_capacity(
    evaluation: Evaluation, strategy: str, promise: Promise, slowdown: dict[str, float], progress: Callable[[str], None]
) -> CapacityPlan:
    """Raises `InputError` if the run cannot be used, or there are fewer clients than the team has."""
    found = measured(evaluation, strategy, slowdown)
    if promise.load.clients < len(found.clients):
        raise InputError(
            f"--clients is {promise.load.clients}, and the team has {len(found.clients)}",
            hint="there must be a device of each",
        )
    plans = []
    for gate in gate_choices(evaluation, found):
        progress(f"simulating gate {gate.name}")
        plans.append(_Search(found, gate, promise).plan())
    return CapacityPlan(promise, found, tuple(plans))


def work_of(found: Measured, gate: GateChoice) -> list[Sequence[Step]]:
    return [question.taken(asked=asked) for question, asked in zip(found.questions, gate.asked, strict=True)]


def client_seconds(work: Sequence[Sequence[Step]], kind: str) -> float:
    """Per question."""
    every = (call for steps in work for step in steps for call in step.clients)
    return sum(call.seconds for call in every if call.client == kind) / len(work)


@dataclass
class _Search:
    found: Measured
    gate: GateChoice
    promise: Promise
    tried: dict[int, Simulated] = field(default_factory=dict)
    work: list[Sequence[Step]] = field(init=False)

    def __post_init__(self) -> None:
        self.work = work_of(self.found, self.gate)

    def plan(self) -> GatePlan:
        alone = float(require("numpy", "eval").percentile([unloaded(steps) for steps in self.work], 95))
        needed, why = self._needed(alone)
        tried = tuple(Servers(servers, simulated) for servers, simulated in sorted(self.tried.items()))
        chosen = None if needed is None else Servers(needed, self.tried[needed])
        return GatePlan(self.gate, alone, chosen, why, tried)

    def _needed(self, alone: float) -> tuple[int | None, str]:
        load, places = self.promise.load, self.promise.places
        if alone > self.promise.p95:
            return None, f"takes {alone:.3g} s (95th percentile) even without waiting"
        for kind in self.found.clients:
            busy = load.arrivals * client_seconds(self.work, kind) / (load.clients // len(self.found.clients))
            if busy >= 1:
                return None, f"the clients {kind} would be busy for {busy:.0%} of the time"
        offered = load.arrivals * server_seconds(self.work) / places
        low, step = math.floor(offered) + 1, 1
        if self._keeps(low):
            return low, ""
        high = low + step
        while not self._keeps(high):
            if high * _IDLE > offered:
                return None, "waiting for clients takes too long, with any number of servers"
            step *= 2
            low, high = high, high + step
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._keeps(middle) else (middle, high)
        return high, ""

    def _keeps(self, servers: int) -> bool:
        if servers not in self.tried:
            places = servers * self.promise.places
            self.tried[servers] = simulate(self.work, self.found.clients, self.promise.load, places)
        return self.tried[servers].p95.interval.high <= self.promise.p95


@dataclass(frozen=True, slots=True)
class CurvePoint:
    servers: int
    arrivals: float
    p95: float


def curve(plan: CapacityPlan) -> Iterator[CurvePoint]:
    """The 95th percentile by arrivals with the best gate, for a few numbers of servers, up to a load of 95 %. More
    arrivals are of more clients, each of whom asks as often as promised."""
    best = plan.best
    if best is None or best.needed is None:
        return
    found, promise, needed = plan.measured, plan.promise, best.needed.servers
    work = work_of(found, best.gate)
    seconds = server_seconds(work)
    for servers in sorted({math.ceil(share * needed) for share in (0.5, 1, 1.5, 2)}):
        for load in CURVE_LOADS if seconds else ():
            arrivals, places = load * servers * promise.places / seconds, servers * promise.places
            clients = max(len(found.clients), round(promise.load.clients * arrivals / promise.load.arrivals))
            simulated = simulate(work, found.clients, Load(arrivals, clients), places)
            yield CurvePoint(servers, arrivals, simulated.p95.value)
