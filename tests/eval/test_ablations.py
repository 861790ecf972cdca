"""Ablations: their variants, wrapped backends, the emulated network, and resuming."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from colm_vl.backends.base import Message, Request, Sampling
from colm_vl.errors import ConfigError
from colm_vl.prompts import LABELLED_LINES
from colm_vl.team import Member, Team
from eval.ablations.kinds import Ablation
from eval.ablations.loopback import Link, Proxy
from eval.ablations.network import LinkMeasurement, Links, break_even, network_study
from eval.ablations.study import study
from eval.ablations.variants import VARIANTS, AblationSettings
from eval.ablations.wrappers import Misguiding, RecordedGuidance, Reseeded, SharedBackend
from eval.benchmarks.registry import find
from eval.evaluator import Plan, plan
from eval.slug import slug
from tests.eval import published

GUIDED = [{"when": "Guidance from", "text": "Answer: (B)"}, "Answer: (A)"]
ADVICE = [
    {
        "when": LABELLED_LINES.profile.texts.guide_system,
        "text": "Evidence: it is there\nDisagreement: none\nCheck: all",
    },
    "Answer: (A)",
]


def team(count: int = 2, server: bool = True) -> Team:
    data: dict[str, Any] = {
        "clients": [{"name": f"c{n}", "backend": "scripted", "model": f"m{n}", "replies": GUIDED} for n in range(count)]
    }
    if server:
        data["server"] = {"backend": "scripted", "model": "big", "replies": ADVICE}
    return Team.from_dict(data)


def questions(folder: Path) -> Plan:
    return plan(find("ai2d"), published.ai2d(folder), limit=2)


def names(kind: Ablation, members: Team, choices: AblationSettings, out: Path) -> Sequence[str]:
    return [variant.name for variant in VARIANTS[kind](members, choices, out)]


def test_variants(tmp_path: Path) -> None:
    three, choices = team(3), AblationSettings(max_rounds=2)
    assert names(Ablation.ROUNDS, three, choices, tmp_path) == ["0 rounds (vote)", "1 round", "2 rounds"]
    assert names(Ablation.CLIENTS, three, choices, tmp_path) == ["all 3", "c0+c1", "c0"]
    assert len(names(Ablation.CLIENTS, three, AblationSettings(all_subsets=True), tmp_path)) == 7
    assert names(Ablation.DIVERSITY, three, choices, tmp_path)[2:] == ["3 × c0", "3 × c1", "3 × c2"]
    assert "50% misguided" in names(Ablation.SERVER, three, choices, tmp_path)


def test_ablations_that_the_team_does_not_allow_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no server to weaken"):
        names(Ablation.SERVER, team(server=False), AblationSettings(), tmp_path)
    with pytest.raises(ConfigError, match="diversity needs two"):
        names(Ablation.DIVERSITY, team(1), AblationSettings(), tmp_path)


def test_a_study_measures_the_effect_of_guidance(tmp_path: Path) -> None:
    found = study(Ablation.GUIDANCE, team(), questions(tmp_path), tmp_path / "out", AblationSettings())
    accuracy = {one["variant"]: one["strategies"][0]["accuracy"] for one in found.data["variants"]}
    assert accuracy == {"with guidance (colm)": 1.0, "drafts in its place (concat)": 0.0, "neither (vote)": 0.0}
    costs = [one["strategies"][0]["cost"]["seconds"]["draft"] for one in found.data["variants"]]
    assert costs[0] == costs[1] == costs[2] > 0
    # The drafts of the first variant are reused by the others.
    traces = (tmp_path / "out" / slug("neither (vote)") / "traces.jsonl").read_text()
    assert "reused" in traces
    assert '"reused":false' not in traces


def asked(question: str) -> Request:
    return Request((Message("user", (f"Question: {question}",)),), stage="guide")


async def test_misleading_guidance_is_for_another_question() -> None:
    member = team().server
    assert member is not None
    others = [RecordedGuidance(f"question {number}?", f"guidance {number}") for number in range(5)]
    swapped: dict[float, set[int]] = {}
    for share in (0.0, 0.5, 1.0):
        backend = Misguiding(SharedBackend(member), share, others)
        replies = [(await backend.generate(asked(f"question {number}?"))).text for number in range(5)]
        assert all(reply != f"guidance {number}" for number, reply in enumerate(replies))
        swapped[share] = {number for number, reply in enumerate(replies) if reply.startswith("guidance")}
        await backend.aclose()
    assert swapped[0.0] == set()
    assert swapped[0.5] <= swapped[1.0] == set(range(5))


async def test_copies_have_different_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []
    member: Member = team().clients[0]
    shared = SharedBackend(member)
    inner = shared.backend
    generate = inner.generate

    async def noting(request: Request) -> Any:
        seeds.append(request.sampling.seed)
        return await generate(request)

    monkeypatch.setattr(inner, "generate", noting)
    for shift in (0, 1):
        await Reseeded(shared, shift).generate(Request((Message("user", ("?",)),), Sampling(temperature=0.7, seed=5)))
    assert seeds == [5, 6]


async def test_the_proxy_delays_and_throttles() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(25_000))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    proxy = Proxy(server.sockets[0].getsockname()[1], Link(latency=50, bandwidth=2))
    port = await proxy.start()
    started = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sent = bytes(25_000)
    writer.write(sent)
    got = await reader.read()
    while more := await reader.read():
        got += more
    seconds = time.monotonic() - started
    writer.close()
    await proxy.close()
    server.close()
    assert got == sent
    # 0.1 s each way at 2 Mbit/s, and 50 ms each way; the upper bound leaves room for a busy machine.
    assert 0.29 <= seconds < 3


def test_break_even() -> None:
    alone = LinkMeasurement(0, 0, computing=1.0, calls=1, bytes=2_000_000)
    assert break_even(LinkMeasurement(0, 0, 2.0, 1, 1_000_000), alone, 5) == "below 8 Mbit/s"
    assert break_even(LinkMeasurement(0, 0, 0.5, 1, 1_000_000), alone, 5) == "always faster"
    assert break_even(LinkMeasurement(0, 0, 2.0, 1, 2_000_000), alone, 5) == "never faster"
    assert break_even(LinkMeasurement(0, 0, 0.5, 1, 2_500_000), alone, 5) == "above 8 Mbit/s"
    assert break_even(LinkMeasurement(0, 0, 1.5, 0, 0), alone, 250) == "always faster"
    assert break_even(LinkMeasurement(0, 0, None, 0, 0), alone, 250) == "–"


def test_a_network_study_counts_what_a_killed_run_computed(tmp_path: Path) -> None:
    slow = [{**GUIDED[0], "delay": 0.1}, {"text": "Answer: (A)", "delay": 0.1}]
    clients = [{"name": "c", "backend": "scripted", "model": "m", "replies": slow}]
    members = Team.from_dict({"clients": clients, "server": {"backend": "scripted", "model": "big", "replies": ADVICE}})
    planned, lines = plan(find("ai2d"), published.ai2d(tmp_path), limit=1), Links((1.0,), (100.0,))
    network_study(members, planned, tmp_path / "out", lines)
    for name in ("traces.jsonl", "answers.jsonl"):
        (tmp_path / "out" / slug("colm direct") / name).unlink()
    again = network_study(members, planned, tmp_path / "out", lines).data["setups"]["colm"]["direct"]
    assert '"reused":true' in (tmp_path / "out" / slug("colm direct") / "traces.jsonl").read_text()
    assert again["computing"] >= 0.2


def test_a_network_study_sends_pictures_over_the_link(tmp_path: Path) -> None:
    found = network_study(team(), questions(tmp_path), tmp_path / "out", Links((20.0,), (1.0,)))
    setups = found.data["setups"]
    assert set(setups) == {"server alone", "colm", "colm, captions only", "colm, asked on disagreement"}
    assert setups["colm"]["20 ms, 1 Mbit/s"]["accuracy"] == 1.0
    assert setups["server alone"]["20 ms, 1 Mbit/s"]["seconds"] >= 0.04
    assert setups["colm, captions only"]["direct"]["bytes"] < setups["colm"]["direct"]["bytes"]
    assert setups["colm, asked on disagreement"]["direct"]["server_calls"] == 0
