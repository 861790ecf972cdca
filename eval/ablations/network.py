"""Latency and bandwidth between clients and server: where does asking small models first cost more time than sending
everything to the server, and where less?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal

from colm_vl import CoLM
from colm_vl.backends import registry
from colm_vl.errors import ConfigError, NoAnswer
from colm_vl.team import Member, Team
from colm_vl.types import Call, Trace

from ..costs import Times, added
from ..items import Rule
from ..names import slug
from ..report.document import Document, Grid, Heading, Plot, Text
from ..report.plots import line_plot
from ..running import Plan, run
from ..runs import Evaluation, read_evaluation
from ..scoring.table import score
from ..show import seconds_each
from ..traces import reply_of
from .study import Study, start_from
from .wire import Endpoint, Line, Proxy
from .wrapping import Shared

DIRECT = Line()
ALONE = "server alone"


@dataclass(frozen=True, slots=True)
class Lines:
    """Every latency (one way, ms) with every bandwidth (Mbit/s)."""

    latencies: tuple[float, ...]
    bandwidths: tuple[float, ...]

    def __iter__(self) -> Iterator[Line]:
        return (Line(latency, bandwidth) for latency, bandwidth in product(self.latencies, self.bandwidths))


@dataclass(frozen=True, slots=True)
class _Way:
    strategy: str
    policy: Mapping[str, Any] = field(default_factory=dict)


_WAYS: Mapping[str, _Way] = MappingProxyType(
    {
        ALONE: _Way("server"),
        "colm": _Way("colm"),
        "colm, captions only": _Way("colm", {"share": "captions"}),
        "colm, asked on disagreement": _Way("colm", {"gate": "disagreement"}),
    }
)


@dataclass(frozen=True, slots=True)
class Measure:
    """Means over the questions: seconds from question to answer; seconds of computing, which no line changes; server
    calls and bytes sent in them. Seconds are None where those of a call are not known."""

    accuracy: float
    seconds: float | None
    computing: float | None
    calls: float
    bytes: float


def network_study(team: Team, plan: Plan, out: Path, lines: Lines) -> Study:
    """Each way over each line. Clients compute once, and their time counts as it was then; what goes over the line is
    timed on every line. One question at a time: this is about waiting, not about throughput."""
    if team.server is None:
        raise ConfigError(f"{team.source} has no server at the other end of a line", hint="add a [server]")
    with start_blocking_portal() as portal, _served(portal, team.server) as port:
        found = {way: _over_all(portal, way, team, port, plan, out, lines) for way in _WAYS}
    data = {
        "ablation": "network",
        "questions": len(plan.items),
        "ways": {
            way: {line.name: _plain(measure) for line, measure in measures.items()} for way, measures in found.items()
        },
    }
    return Study(_document(plan, lines, found), data)


@contextmanager
def _served(portal: BlockingPortal, server: Member) -> Iterator[int]:
    endpoint = Endpoint(Shared(server))
    port = portal.call(endpoint.start)
    try:
        yield port
    finally:
        portal.call(endpoint.close)


def _over_all(
    portal: BlockingPortal, way: str, team: Team, port: int, plan: Plan, out: Path, lines: Lines
) -> dict[Line, Measure]:
    direct = out / slug(f"{way} direct")
    evaluation = _over(portal, DIRECT, way, team, port, plan, direct)
    computed = _times(evaluation, way)
    measured = {DIRECT: _measure(evaluation, way, computed)}
    for line in lines:
        folder = out / slug(f"{way} {line.name}")
        start_from(direct, folder)
        measured[line] = _measure(_over(portal, line, way, team, port, plan, folder), way, computed)
    return measured


def _over(portal: BlockingPortal, line: Line, way: str, team: Team, port: int, plan: Plan, folder: Path) -> Evaluation:
    proxy = Proxy(port, line)
    # The line is in the address, so that a call over one line is never taken for the same call over another.
    address = f"http://127.0.0.1:{portal.call(proxy.start)}/{slug(line.name)}/v1"
    try:
        with CoLM(_behind(team, address).with_policy(**_WAYS[way].policy)) as colm:
            with suppress(NoAnswer):  # connecting, and loading a model, are no part of what is measured
                colm.ask("Ready?", strategy="server")
            for _ in run(colm, plan, [_WAYS[way].strategy], folder, concurrency=1):
                pass
    finally:
        portal.call(proxy.close)
    return read_evaluation(folder)


def _behind(team: Team, address: str) -> Team:
    """The same team, its server reached at this address."""
    assert team.server is not None
    options = registry.options_class("openai").model_validate({"model": team.server.label, "base_url": address})
    return replace(team, server=Member(team.server.name, "server", "openai", options))


@dataclass(frozen=True, slots=True)
class _Times:
    """Seconds of one question from end to end: of the clients' calls, and of the server's."""

    local: float | None = None
    server: float | None = None


def _times(evaluation: Evaluation, way: str) -> dict[str, _Times]:
    times = Times.of_run(evaluation)
    return {
        trace.id: _Times(_path(trace, _locals(trace), times), _path(trace, _servers(trace), times))
        for trace in evaluation.traces[_WAYS[way].strategy]
    }


def _measure(evaluation: Evaluation, way: str, computed: Mapping[str, _Times]) -> Measure:
    traces = evaluation.traces[_WAYS[way].strategy]
    replies = {trace.id: reply_of(trace) for trace in traces}
    table = score(evaluation.benchmark, list(evaluation.items.values()), replies, Rule.STRICT, partial=True)
    here = _times(evaluation, way)
    there = [computed.get(trace.id, _Times()) for trace in traces]
    of_server = [_servers(trace) for trace in traces]
    count = max(len(traces), 1)
    return Measure(
        accuracy=table.overall.accuracy,
        seconds=_mean([*(here[trace.id].server for trace in traces), *(one.local for one in there)], count),
        computing=_mean([part for one in there for part in (one.local, one.server)], count),
        calls=sum(map(len, of_server)) / count,
        bytes=sum(call.sent.bytes for calls in of_server for call in calls) / count,
    )


def _mean(seconds: Sequence[float | None], count: int) -> float | None:
    total = added(seconds)
    return None if total is None else total / count


def _servers(trace: Trace) -> list[Call]:
    names = {member.name for member in trace.members if member.role == "server"}
    return [call for call in trace.calls if call.member in names]


def _locals(trace: Trace) -> list[Call]:
    servers = _servers(trace)
    return [call for call in trace.calls if call not in servers]


def _path(trace: Trace, calls: Sequence[Call], times: Times) -> float | None:
    """Clients work side by side, stages and rounds one after the other."""
    stages: dict[tuple[str, int], float] = {}
    for call in calls:
        seconds = times.of(trace, call)
        if seconds is None:
            return None
        place = (call.stage, call.round)
        stages[place] = max(stages.get(place, 0.0), seconds)
    return sum(stages.values())


def break_even(way: Measure, alone: Measure, latency: float) -> str:
    """The bandwidth below which a way is faster than the server alone: where computing, round trips and transfer of the
    one add up to those of the other."""
    if way.computing is None or alone.computing is None:
        return "–"
    extra = way.computing - alone.computing + 2 * latency / 1000 * (way.calls - alone.calls)
    saved = alone.bytes - way.bytes
    if saved > 0:
        return _mbit(saved / extra, "below") if extra > 0 else "always faster"
    if saved == 0 or extra >= 0:
        return "always faster" if extra < 0 else "never faster"
    return _mbit(saved / extra, "above")


def _mbit(bytes_a_second: float, side: str) -> str:
    return f"{side} {8 * bytes_a_second / 1e6:.3g} Mbit/s"


def _document(plan: Plan, lines: Lines, found: Mapping[str, Mapping[Line, Measure]]) -> Document:
    ways = list(found)
    direct = {way: found[way][DIRECT] for way in ways}
    names = [line.name for line in lines]
    plotted = {way: [_or_gap(found[way][line].seconds) for line in lines] for way in ways}
    return Document(
        f"Latency and bandwidth: {plan.benchmark.title}",
        (
            Text(
                f"{len(plan.items)} questions, one at a time. Clients run here; the server is behind a proxy on "
                "loopback that delays and throttles both ways. Seconds are from question to answer, clients side by "
                "side."
            ),
            Grid(
                ("way", "accuracy", "server calls", "KB sent", "seconds computing"),
                tuple(
                    (way, f"{m.accuracy:.1%}", f"{m.calls:.2f}", f"{m.bytes / 1000:.2f}", seconds_each(m.computing, 1))
                    for way, m in direct.items()
                ),
            ),
            Heading("Seconds a question"),
            Grid(
                ("line", *ways),
                tuple(
                    (line.name, *(seconds_each(found[way][line].seconds, 1) for way in ways))
                    for line in (DIRECT, *lines)
                ),
            ),
            Plot("network.png", line_plot(names, plotted, "line", "seconds a question"), "Seconds over lines"),
            Heading("Break-even against sending everything to the server"),
            Text(
                "The bandwidth on whose one side collaborating is the faster way, from the measured bytes, calls and "
                "computing times. Gained in time is not gained in accuracy: see the first table for both."
            ),
            Grid(
                ("one-way latency", *ways[1:]),
                tuple(
                    (f"{latency:g} ms", *(break_even(direct[way], direct[ALONE], latency) for way in ways[1:]))
                    for latency in lines.latencies
                ),
            ),
        ),
    )


def _or_gap(seconds: float | None) -> float:
    """What is not a number leaves a gap in a plot."""
    return math.nan if seconds is None else seconds


def _plain(measure: Measure) -> dict[str, float | None]:
    return {
        "accuracy": measure.accuracy,
        "seconds": measure.seconds,
        "computing": measure.computing,
        "server_calls": measure.calls,
        "bytes": measure.bytes,
    }
