"""The report of a capacity plan: what was measured, what was simulated, and the response times by arrivals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..report.document import Document, Heading, Part, Plot, Table, Text
from ..report.plots import arrivals_plot
from .plan import CapacityPlan, CurvePoint, GatePlan, Promise, Servers
from .simulation import BATCHES, Percentile, Simulated

_TIMES = ("p50", "p95 (95 % interval)", "p99", "servers busy", "clients busy")


def document(title: str, plan: CapacityPlan, points: Sequence[CurvePoint] = ()) -> Document:
    return Document(f"Capacity: {title}", tuple(_parts(plan, points)))


def _parts(plan: CapacityPlan, points: Sequence[CurvePoint]) -> Iterator[Part]:
    promise, found = plan.promise, plan.measured
    yield Text(_answer(plan))
    yield Heading("Measured")
    left_out = (
        f" {found.left_out} others are left out: a call failed, or its time is unknown." if found.left_out else ""
    )
    yield Text(
        f"Times of the calls of {len(found.questions)} questions with {found.strategy}, in seconds, without waiting "
        f"for the model as far as that is known.{left_out}"
    )
    head = ("stage, member", "calls", "mean", "p50", "p95", "p99")
    rows = [
        (f"{one.stage}, {one.member}", str(one.seconds.count),
         *(f"{value:.3f}" for value in (one.seconds.mean, one.seconds.p50, one.seconds.p95, one.seconds.p99)))
        for one in found.stages
    ]  # fmt: skip
    yield Table(head, tuple(rows))
    yield Text(
        "How often each gate asks the server, and the accuracy of the run's answers if it decides. Gates that decide "
        "alike are shown once."
    )
    yield Table(
        ("gate", "server asked", "accuracy"),
        tuple((one.gate.name, f"{one.gate.share_asked:.1%}", _share(one.gate.accuracy)) for one in plan.gates),
    )
    yield Heading("Simulated")
    yield Text(_how(promise, plan.gates))
    best = plan.best
    rows = [_gate_row(one) for one in plan.gates]
    yield Table(
        ("gate", "servers", *_TIMES), tuple(rows), frozenset(n for n, one in enumerate(plan.gates) if one is best)
    )
    yield from (Text(f"{one.gate.name}: {one.why}.") for one in plan.gates if one.why)
    if best is not None and len(best.tried) > 1:
        yield Text(f"Other numbers of servers, with the gate {best.gate.name}:")
        yield Table(("servers", *_TIMES), tuple((str(one.servers), *_times(one.simulated)) for one in best.tried))
    if best is not None and points:
        lines = _lines(points)
        plot = arrivals_plot(lines, arrivals=promise.load.arrivals, target=promise.p95)
        yield Plot("capacity.png", plot, f"95th percentile by arrivals, gate {best.gate.name}, by number of servers")


def _answer(plan: CapacityPlan) -> str:
    promise, best = plan.promise, plan.best
    asked = (
        f"{promise.load.arrivals:.4g} questions per second from {promise.load.clients:,} clients, 95 % of them "
        f"answered within {promise.p95:g} s"
    )
    if best is None or best.needed is None:
        return f"{asked}: no number of servers keeps this promise. The reasons are below."
    servers = f"{best.needed.servers} server{'s' if best.needed.servers > 1 else ''}"
    accuracy = "" if best.gate.accuracy is None else f", accuracy {best.gate.accuracy:.1%}"
    return (
        f"{asked}: {servers} with the gate {best.gate.name}, which asks the server in {best.gate.share_asked:.0%} of "
        f"the questions{accuracy}. This is simulated from measured times."
    )


def _how(promise: Promise, plans: Sequence[GatePlan]) -> str:
    simulated = [one.simulated for plan in plans for one in plan.tried]
    window = (
        f" Each number of servers was simulated with {min(one.questions for one in simulated):,} questions or more, "
        f"after {min(one.warm_up for one in simulated):,} others; intervals are from {BATCHES} batches of them. The "
        "promise counts as kept if the upper end of the interval does."
        if simulated
        else ""
    )
    return (
        "Nothing in this section was measured. Questions arrive at random, and take the measured times of a question "
        f"drawn at random. A server answers {promise.places} request{'s' if promise.places > 1 else ''} at a time; all "
        f"servers share one queue. Each client is a device that makes one call at a time.{window}"
    )


def _gate_row(plan: GatePlan) -> tuple[str, ...]:
    if plan.needed is None:
        return plan.gate.name, "–", *("–" for _ in _TIMES)
    return plan.gate.name, str(plan.needed.servers), *_times(plan.needed.simulated)


def _times(one: Simulated) -> tuple[str, ...]:
    return (
        f"{one.p50.value:.2f}",
        f"{one.p95.value:.2f} ({one.p95.interval.low:.2f}–{one.p95.interval.high:.2f})",
        f"{one.p99.value:.2f}",
        f"{one.server_busy:.0%}",
        f"{one.client_busy:.2%}",
    )


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _lines(points: Sequence[CurvePoint]) -> Mapping[int, Sequence[tuple[float, float]]]:
    lines: dict[int, list[tuple[float, float]]] = {}
    for point in points:
        lines.setdefault(point.servers, []).append((point.arrivals, point.p95))
    return lines


def as_json(plan: CapacityPlan, points: Sequence[CurvePoint] = ()) -> dict[str, Any]:
    """What was measured and what was simulated are apart."""
    promise, found, best = plan.promise, plan.measured, plan.best
    return {
        "promise": {
            "arrivals_per_second": promise.load.arrivals,
            "clients": promise.load.clients,
            "p95": promise.p95,
            "places": promise.places,
        },
        "measured": {
            "strategy": found.strategy,
            "questions": len(found.questions),
            "left_out": found.left_out,
            "calls": [{"stage": one.stage, "member": one.member, **asdict(one.seconds)} for one in found.stages],
            "gates": [
                {"gate": one.gate.name, "asked": one.gate.share_asked, "accuracy": one.gate.accuracy}
                for one in plan.gates
            ],
        },
        "simulated": {
            "best": None
            if best is None or best.needed is None
            else {"gate": best.gate.name, "servers": best.needed.servers},
            "gates": [
                {
                    "gate": one.gate.name,
                    "servers": one.needed.servers if one.needed else None,
                    "why": one.why,
                    "p95_without_waiting": one.unloaded_p95,
                    "tried": [_servers(servers) for servers in one.tried],
                }
                for one in plan.gates
            ],
            "curve": [asdict(point) for point in points],
        },
    }


def _servers(one: Servers) -> dict[str, Any]:
    def percentile(found: Percentile) -> dict[str, float]:
        return {"value": found.value, **asdict(found.interval)}

    simulated = one.simulated
    return {
        "servers": one.servers,
        "p50": percentile(simulated.p50),
        "p95": percentile(simulated.p95),
        "p99": percentile(simulated.p99),
        "server_busy": simulated.server_busy,
        "client_busy": simulated.client_busy,
        "questions": simulated.questions,
        "warm_up": simulated.warm_up,
    }
