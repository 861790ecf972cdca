"""Ablation load: response times and throughput of collaboration and of the server alone, by the number of askers."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from colm_vl import AsyncCoLM, Query
from colm_vl.backends.base import Backend
from colm_vl.batch.lines import dump
from colm_vl.batch.questions import Row
from colm_vl.errors import ConfigError, NoAnswer
from colm_vl.team import Team
from processors.images import Image

from ..client_answers import reply_of
from ..costs import server_calls
from ..dataset import json_lines
from ..durations import Percentiles
from ..evaluator import Plan
from ..scoring.scorer import score
from ..types import Rule
from .askers import Answered, Loop, closed_loop
from .load_report import break_evens, document
from .load_values import LoadMeasurement, LoadSettings, SetupLoad
from .setups import ALONE, Setup
from .stub_team import KEY as STUB_KEY
from .stub_team import stub_plan, stub_team
from .study import Study
from .wrappers import Bounded, Replayed, SharedBackend

POINTS = "points.jsonl"


def stub_study(out: Path, settings: LoadSettings, progress: Callable[[str], None]) -> Study:
    """The same with stub endpoints, whose times and places are fixed."""
    with stub_team(settings.places, settings.slowdown) as team:
        return load_study(team, stub_plan(), out, replace(settings, stub=True), progress)


def load_study(
    team: Team, plan: Plan, out: Path, settings: LoadSettings, progress: Callable[[str], None] = lambda _: None
) -> Study:
    """Measure every setup with every number of askers. Resumable: what was measured is kept in `out`.

    The server computes here, so its throughput is that of this machine, unless its replies are repeated, too. Clients
    cost this machine nothing after their first replies, because askers bring their own devices.
    """
    _check(team, settings)
    found = asyncio.run(_Measuring(team, plan, settings, _Points(out / POINTS), progress).all())
    data = {
        "ablation": "load",
        "questions": len(plan.items),
        "settings": asdict(settings),
        "setups": {
            name: {
                "accuracy": setup.accuracy,
                "askers": {
                    str(askers): {**asdict(one), "correct": setup.correct(askers)}
                    for askers, one in setup.by_askers.items()
                },
            }
            for name, setup in found.items()
        },
        "break_even": break_evens(found),
    }
    return Study(document(plan.benchmark.title, len(plan.items), settings, found), data)


def _check(team: Team, settings: LoadSettings) -> None:
    if team.server is None:
        raise ConfigError(f"{team.source} has no server", hint="add a [server]")
    names = [client.name for client in team.clients]
    unknown = next((name for name in settings.slowdown if name not in names), None)
    if unknown is not None:
        raise ConfigError(f"no client is called {unknown!r}", hint=f"--slow takes: {', '.join(names)}")
    for setup in _setups(settings.gates).values():
        team.with_policy(**setup.policy)


def _setups(gates: Sequence[str]) -> Mapping[str, Setup]:
    return {
        ALONE: Setup("server"),
        "verdict": Setup("verdict"),
        "colm": Setup("colm", {"gate": "always"}),
        **{f"colm, {gate}": Setup("colm", {"gate": gate}) for gate in gates},
    }


def _query(question: Query | Row) -> Query:
    return question if isinstance(question, Query) else question.query(map(Image.open, question.pictures))


class _Points:
    """The file of what has been measured, by its settings."""

    def __init__(self, path: Path) -> None:
        self._path = path
        rows = json_lines(path) if path.exists() else ()
        self._known = {dump(row["settings"]): LoadMeasurement.from_dict(row["measured"]) for row in rows}

    def find(self, settings: Mapping[str, Any]) -> LoadMeasurement | None:
        return self._known.get(dump(settings))

    def add(self, settings: Mapping[str, Any], measured: LoadMeasurement) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            file.write(dump({"settings": settings, "measured": asdict(measured)}))


@dataclass
class _Measuring:
    team: Team
    plan: Plan
    settings: LoadSettings
    points: _Points
    progress: Callable[[str], None]
    queries: Sequence[Query] = field(init=False)
    alone: asyncio.Lock = field(default_factory=asyncio.Lock)
    prepared: bool = False

    async def all(self) -> Mapping[str, SetupLoad]:
        """Setups are measured in turn, so that other load on this machine affects all of them."""
        self.queries = [_query(question) for question in self.plan.questions]
        setups, server = _setups(self.settings.gates), self._server()
        found: dict[str, dict[int, LoadMeasurement]] = {name: {} for name in setups}
        async with AsyncCoLM(self.team, backends=self._backends(server)) as colm:
            for askers, (name, setup) in product(self.settings.askers, setups.items()):
                measured = await self._point(colm, server, setup, askers)
                found[name][askers] = measured
                self.progress(f"{name}, {askers} asking: {measured.throughput:.2f} questions/s")
        return {name: SetupLoad(by_askers) for name, by_askers in found.items()}

    def _server(self) -> Bounded:
        assert self.team.server is not None
        shared = SharedBackend(self.team.server)
        server = Replayed(shared, self.alone) if self.settings.replay_server else shared
        return Bounded(server, self.settings.places)

    def _backends(self, server: Bounded) -> Mapping[str, Backend]:
        assert self.team.server is not None
        slow = self.settings.slowdown
        replayed = {
            client.name: Replayed(SharedBackend(client), self.alone, slow.get(client.name, 1.0))
            for client in self.team.clients
        }
        return {**({} if self.settings.stub else replayed), self.team.server.name: server}

    def _key(self, setup: Setup, askers: int) -> Mapping[str, Any]:
        """All that a measurement depends on, as plain JSON."""
        ids = "\n".join(query.id for query in self.queries)
        settings = {name: value for name, value in asdict(self.settings).items() if name not in ("askers", "gates")}
        return {
            **settings,
            "team": STUB_KEY if self.settings.stub else [asdict(member) for member in self.team.infos],
            "strategy": setup.strategy,
            "policy": dict(setup.policy),
            "askers": askers,
            "questions": f"{self.plan.benchmark.name} {hashlib.sha256(ids.encode()).hexdigest()}",
        }

    async def _point(self, colm: AsyncCoLM, server: Bounded, setup: Setup, askers: int) -> LoadMeasurement:
        key = self._key(setup, askers)
        known = self.points.find(key)
        if known is not None:
            return known
        await self._prepare(colm)
        policy, seconds = {**setup.policy, "strategy": setup.strategy}, self.settings.seconds
        loop = await closed_loop(colm, self.queries, server, askers=askers, seconds=seconds, policy=policy)
        measured = self._measured(loop)
        self.points.add(key, measured)
        return measured

    async def _prepare(self, colm: AsyncCoLM) -> None:
        """Ask every question once, so that the replies and times to repeat are known, and models are loaded."""
        if self.prepared:
            return
        queries = self.queries[:1] if self.settings.stub else self.queries
        strategies = ("colm", "verdict", "server") if self.settings.replay_server else ("colm",)
        self.progress(f"asking {len(queries)} questions once")
        for query, strategy in product(queries, strategies):
            with suppress(NoAnswer):
                await colm.ask(query, strategy=strategy, gate="always")
        self.prepared = True

    def _measured(self, loop: Loop) -> LoadMeasurement:
        answered, traces = loop.answered, [one.trace for one in loop.answered]
        count = max(len(answered), 1)
        return LoadMeasurement(
            times=Percentiles.of([one.seconds for one in answered]),
            throughput=len(answered) / loop.window,
            busy=loop.busy,
            calls=sum(len(server_calls(trace)) for trace in traces) / count,
            failed=sum(trace.settlement is None for trace in traces),
            grades=self._grades([*loop.warm_up, *answered]),
        )

    def _grades(self, answered: Sequence[Answered]) -> Mapping[str, float]:
        """By question. The last answer to a question stands for all of them."""
        items = self.plan.items
        if not answered or not any(item.gold for item in items):
            return {}
        replies = {one.trace.id: reply_of(one.trace) for one in answered}
        results = score(self.plan.benchmark, items, replies, Rule.STRICT, partial=True)
        return {one.id: one.grade for one in results.scores}
