"""Ablation network: response times of collaboration and of the server alone, by latency and bandwidth to the server."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from types import MappingProxyType

from anyio.from_thread import BlockingPortal, start_blocking_portal

from colm_vl import CoLM
from colm_vl.backends import registry
from colm_vl.errors import ConfigError, NoAnswer
from colm_vl.team import Member, Team
from colm_vl.types import Call, Trace

from ..client_answers import reply_of
from ..costs import CallTimes, Journal, seconds_of_calls, server_calls, sum_or_none
from ..evaluator import Plan, run
from ..report.document import Document, Heading, Plot, Table, Text
from ..report.plots import line_plot
from ..run_folder import Evaluation, read_evaluation
from ..scoring.scorer import score
from ..slug import slug
from ..tables import seconds_each
from ..types import Rule
from .loopback import Endpoint, Link, Proxy
from .setups import ALONE, Setup
from .study import Study, start_from
from .wrappers import SharedBackend

DIRECT = Link()


@dataclass(frozen=True, slots=True)
class Links:
    """Every combination of one-way latencies (ms) and bandwidths (Mbit/s)."""

    latencies: tuple[float, ...]
    bandwidths: tuple[float, ...]

    def __iter__(self) -> Iterator[Link]:
        return (Link(latency, bandwidth) for latency, bandwidth in product(self.latencies, self.bandwidths))


_SETUPS: Mapping[str, Setup] = MappingProxyType(
    {
        ALONE: Setup("server"),
        "colm": Setup("colm"),
        "colm, captions only": Setup("colm", {"share": "captions"}),
        "colm, asked on disagreement": Setup("colm", {"gate": "disagreement"}),
    }
)


@dataclass(frozen=True, slots=True)
class LinkMeasurement:
    """Means per question: seconds from question to answer, seconds of computing (the same on every link), server calls,
    and bytes sent to the server. Seconds are None if the duration of a call is unknown."""

    accuracy: float
    seconds: float | None
    computing: float | None
    calls: float
    bytes: float


def network_study(team: Team, plan: Plan, out: Path, links: Links) -> Study:
    """Measure every setup over every link.

    Clients compute once, and their measured time is used for every link; server calls are timed on each link. Questions
    are asked one at a time, since this measures response times and not throughput.
    """
    if team.server is None:
        raise ConfigError(f"{team.source} has no server", hint="add a [server]")
    with start_blocking_portal() as portal, _served(portal, team.server) as port:
        found = {setup: _over_all(portal, setup, team, port, plan, out, links) for setup in _SETUPS}
    data = {
        "ablation": "network",
        "questions": len(plan.items),
        "setups": {
            setup: {link.name: _plain(one) for link, one in measured.items()} for setup, measured in found.items()
        },
    }
    return Study(_document(plan, links, found), data)


@contextmanager
def _served(portal: BlockingPortal, server: Member) -> Iterator[int]:
    endpoint = Endpoint(SharedBackend(server))
    port = portal.call(endpoint.start)
    try:
        yield port
    finally:
        portal.call(endpoint.close)


def _over_all(
    portal: BlockingPortal, setup: str, team: Team, port: int, plan: Plan, out: Path, links: Links
) -> dict[Link, LinkMeasurement]:
    direct = out / slug(f"{setup} direct")
    evaluation = _over(portal, DIRECT, setup, team, port, plan, direct)
    computed = _times(evaluation, setup)
    measured = {DIRECT: _measure(evaluation, setup, computed)}
    for link in links:
        folder = out / slug(f"{setup} {link.name}")
        start_from(direct, folder)
        measured[link] = _measure(_over(portal, link, setup, team, port, plan, folder), setup, computed)
    return measured


def _over(
    portal: BlockingPortal, link: Link, setup: str, team: Team, port: int, plan: Plan, folder: Path
) -> Evaluation:
    proxy = Proxy(port, link)
    # The link is part of the address, so that journalled calls over one link are not reused for another.
    address = f"http://127.0.0.1:{portal.call(proxy.start)}/{slug(link.name)}/v1"
    try:
        with CoLM(_behind(team, address).with_policy(**_SETUPS[setup].policy)) as colm:
            with suppress(NoAnswer):  # exclude connecting and loading the model
                colm.ask("Ready?", strategy="server")
            for _ in run(colm, plan, [_SETUPS[setup].strategy], folder, concurrency=1):
                pass
    finally:
        portal.call(proxy.close)
    return read_evaluation(folder)


def _behind(team: Team, address: str) -> Team:
    """The same team with its server at this address, asked as it is without it."""
    server = team.server
    assert server is not None
    options = registry.options_class("openai").model_validate({"model": server.label, "base_url": address})
    asked = replace(server, backend="openai", options=options, reply_format=team.reply_format_of(server))
    return replace(team, server=asked)


@dataclass(frozen=True, slots=True)
class _Times:
    """Seconds per question from end to end, of client calls and of server calls."""

    local: float | None = None
    server: float | None = None


def _times(evaluation: Evaluation, setup: str) -> dict[str, _Times]:
    traces = evaluation.traces[_SETUPS[setup].strategy]
    times = CallTimes(seconds_of_calls(traces), Journal(evaluation.folder))
    return {
        trace.id: _Times(_path(trace, _locals(trace), times), _path(trace, server_calls(trace), times))
        for trace in traces
    }


def _measure(evaluation: Evaluation, setup: str, computed: Mapping[str, _Times]) -> LinkMeasurement:
    traces = evaluation.traces[_SETUPS[setup].strategy]
    replies = {trace.id: reply_of(trace) for trace in traces}
    table = score(evaluation.benchmark, list(evaluation.items.values()), replies, Rule.STRICT, partial=True)
    here = _times(evaluation, setup)
    there = [computed.get(trace.id, _Times()) for trace in traces]
    of_server = [server_calls(trace) for trace in traces]
    count = max(len(traces), 1)
    return LinkMeasurement(
        accuracy=table.overall.accuracy,
        seconds=_mean([*(here[trace.id].server for trace in traces), *(one.local for one in there)], count),
        computing=_mean([part for one in there for part in (one.local, one.server)], count),
        calls=sum(map(len, of_server)) / count,
        bytes=sum(call.sent.bytes for calls in of_server for call in calls) / count,
    )


def _mean(seconds: Sequence[float | None], count: int) -> float | None:
    total = sum_or_none(seconds)
    return None if total is None else total / count


def _locals(trace: Trace) -> list[Call]:
    servers = server_calls(trace)
    return [call for call in trace.calls if call not in servers]


def _path(trace: Trace, calls: Sequence[Call], times: CallTimes) -> float | None:
    """The critical path: the slowest call of each stage and round, summed."""
    stages: dict[tuple[str, int], float] = {}
    for call in calls:
        seconds = times.of(trace, call)
        if seconds is None:
            return None
        place = (call.stage, call.round)
        stages[place] = max(stages.get(place, 0.0), seconds)
    return sum(stages.values())


def break_even(setup: LinkMeasurement, alone: LinkMeasurement, latency: float) -> str:
    """The bandwidth below (or above) which a setup is faster than the server alone: where the sums of computing, round
    trips and transfer are equal."""
    if setup.computing is None or alone.computing is None:
        return "–"
    extra = setup.computing - alone.computing + 2 * latency / 1000 * (setup.calls - alone.calls)
    saved = alone.bytes - setup.bytes
    if saved > 0:
        return _mbit(saved / extra, "below") if extra > 0 else "always faster"
    if saved == 0 or extra >= 0:
        return "always faster" if extra < 0 else "never faster"
    return _mbit(saved / extra, "above")


def _mbit(bytes_per_second: float, side: str) -> str:
    return f"{side} {8 * bytes_per_second / 1e6:.3g} Mbit/s"


def _document(plan: Plan, links: Links, found: Mapping[str, Mapping[Link, LinkMeasurement]]) -> Document:
    setups = list(found)
    direct = {setup: found[setup][DIRECT] for setup in setups}
    names = [link.name for link in links]
    plotted = {setup: [_or_gap(found[setup][link].seconds) for link in links] for setup in setups}
    return Document(
        f"Latency and bandwidth: {plan.benchmark.title}",
        (
            Text(
                f"{len(plan.items)} questions, one at a time. Clients run here; the server is behind a proxy on "
                "loopback that limits latency and bandwidth in both directions. Seconds are from question to answer; "
                "clients run in parallel."
            ),
            Table(
                ("setup", "accuracy", "server calls", "KB sent", "seconds computing"),
                tuple(
                    (
                        setup,
                        f"{m.accuracy:.1%}",
                        f"{m.calls:.2f}",
                        f"{m.bytes / 1000:.2f}",
                        seconds_each(m.computing, 1),
                    )
                    for setup, m in direct.items()
                ),
            ),
            Heading("Seconds per question"),
            Table(
                ("link", *setups),
                tuple(
                    (link.name, *(seconds_each(found[setup][link].seconds, 1) for setup in setups))
                    for link in (DIRECT, *links)
                ),
            ),
            Plot(
                "network.png", line_plot(names, plotted, "link", "seconds per question"), "Seconds per question by link"
            ),
            Heading("Break-even bandwidth"),
            Text(
                "The bandwidth below (or above) which a setup is faster than the server alone, computed from the "
                "measured bytes, calls and computing times. The first table shows what each setup does to accuracy."
            ),
            Table(
                ("one-way latency", *setups[1:]),
                tuple(
                    (f"{latency:g} ms", *(break_even(direct[setup], direct[ALONE], latency) for setup in setups[1:]))
                    for latency in links.latencies
                ),
            ),
        ),
    )


def _or_gap(seconds: float | None) -> float:
    """NaN leaves a gap in a plot."""
    return math.nan if seconds is None else seconds


def _plain(one: LinkMeasurement) -> dict[str, float | None]:
    return {
        "accuracy": one.accuracy,
        "seconds": one.seconds,
        "computing": one.computing,
        "server_calls": one.calls,
        "bytes": one.bytes,
    }
