"""Measures what one client that is much slower than the others costs: time, and places at its endpoint."""

from __future__ import annotations

import json
import statistics
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import replace

from colm_vl import CoLM, Query

from .endpoints import PLACES, team_at
from .figures import Figure
from .stub import endpoints

LATENCY = 0.2
PATIENCE = 0.5
SLOWER = 20


def stragglers(questions: int, late: int, latency: float = LATENCY) -> Sequence[Figure]:
    """Two clients and a server at `latency` seconds, and a client at SLOWER times that."""
    with (
        endpoints(3, latency=latency, places=1000) as (first, second, server),
        endpoints(1, latency=SLOWER * latency, places=1000) as (slow,),
    ):
        team = team_at([first, second, slow, server]).with_policy(quorum=2, patience=PATIENCE)
        others = replace(team, clients=team.clients[:2])
        with CoLM(team) as colm, CoLM(others) as quick:
            return [_time(colm, quick, questions, latency), _places(colm, slow, late, latency)]


def _time(colm: CoLM, quick: CoLM, questions: int, latency: float) -> Figure:
    """Both teams are asked alternately."""
    quick.ask("Warm-up?")
    colm.ask("Warm-up?")
    theirs, ours = [], []
    for number in range(questions):
        begun = time.monotonic()
        quick.ask(f"How many dots are there in picture {number}?")
        between = time.monotonic()
        trace = colm.ask(f"How many dots are there in picture {number}?")
        theirs.append(between - begun)
        ours.append(time.monotonic() - between)
        assert [one.stage for one in trace.late] == ["draft"]
    others, seconds = statistics.median(theirs), statistics.median(ours)
    most = 1.05 * (PATIENCE + others)
    return Figure(
        f"time of a question with one client at {SLOWER} times the others' latency",
        f"{seconds:.2f} s",
        f"≤ {most:.2f} s",
        seconds <= most,
        f"median of {questions}, at most {max(ours):.2f} s; quorum of 2, patience of {PATIENCE:g} s; without the slow "
        f"client {others:.2f} s; the target is the sum of these two and 5 %; waiting for the slow client's draft and "
        f"refined answer would take {2 * SLOWER * latency + latency:.1f} s",
    )


def _places(colm: CoLM, slow: str, late: int, latency: float) -> Figure:
    """Cancel calls as late, then see whether the endpoint is idle and whether all of its places can be used."""
    asked = [Query(f"How many dots are there in drawing {number}?") for number in range(late + PLACES)]
    traces = list(colm.batch(asked[:late], concurrency=4 * PLACES, strategy="vote", patience=0.0))
    cancelled = sum(len(trace.late) for trace in traces)
    left = _at_once(slow)["now"]
    begun = time.monotonic()
    waited = list(colm.batch(asked[late:], concurrency=PLACES, strategy="vote", quorum=3))
    seconds = (time.monotonic() - begun) / (SLOWER * latency)
    peak = _at_once(slow)["peak"]
    return Figure(
        "places lost to calls that were cancelled as late",
        f"{left} calls go on, {peak} of {PLACES} places in use",
        f"0, and {PLACES} of {PLACES}",
        left == 0 and peak == PLACES and all(len(trace.drafts) == 3 for trace in waited),
        f"{cancelled:,} cancelled calls of the slow client, which may make {PLACES} at once; {PLACES} further ones "
        f"take {seconds:.1f} times the time of one",
    )


def _at_once(url: str) -> dict[str, int]:
    """The calls that an endpoint is answering, and how many at most since it was last asked."""
    with urllib.request.urlopen(url, timeout=10) as reply:  # noqa: S310 - our own endpoint
        found: dict[str, int] = json.load(reply)
    return found
