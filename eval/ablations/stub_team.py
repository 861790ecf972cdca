"""A team of stub endpoints on loopback for ablation load, and its questions: times and places without real models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from colm_vl import Query, Team
from colm_vl.batch.questions import Questions
from colm_vl.errors import ConfigError

from ..bench.endpoints import team_at
from ..bench.stub import endpoints
from ..evaluator import Plan, plan
from ..labelled import read_labelled
from ..own_questions import OwnQuestions

CLIENTS = ("client 1", "client 2")
CLIENT_SECONDS, SERVER_SECONDS = 0.3, 0.2
DIFFER = 0.2
"""The share of questions to which a client gives another answer. The two give the same to about 68 %."""
KEY = f"{len(CLIENTS)} stub clients of {CLIENT_SECONDS} s, differ {DIFFER}, a stub server of {SERVER_SECONDS} s"
_QUESTIONS = 1000
_MANY = 1000


@contextmanager
def stub_team(places: int, slowdown: Mapping[str, float]) -> Iterator[Team]:
    """Two clients that answer any number of requests at a time, and a server that answers `places`."""
    unknown = next((name for name in slowdown if name not in CLIENTS), None)
    if unknown is not None:
        raise ConfigError(f"no client is called {unknown!r}", hint=f"--slow takes: {', '.join(CLIENTS)}")
    latencies = [CLIENT_SECONDS * slowdown.get(name, 1.0) for name in CLIENTS]
    with (
        endpoints(len(CLIENTS), latency=latencies, places=_MANY, differ=DIFFER) as clients,
        endpoints(1, latency=SERVER_SECONDS, places=places) as server,
    ):
        yield team_at([*clients, *server], places=_MANY)


def stub_plan() -> Plan:
    """Different questions without gold answers."""
    rows = Questions([Query(f"How many dots are there in picture {number}?") for number in range(_QUESTIONS)])
    return plan(OwnQuestions("stub endpoints", read_labelled(rows), rows), None)
