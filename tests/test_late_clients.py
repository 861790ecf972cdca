"""Clients that take much longer than the others."""

from __future__ import annotations

import time
from pathlib import Path

from colm_vl import AsyncCoLM, Late, Query, Team, Trace
from tests.endpoint import Endpoint, Fault
from tests.teams import FIVE, FOUR, GUIDANCE, Scripted, scripted

QUESTION = "How many dots are there?"
SLOW = {"text": FIVE, "delay": 20.0}


def team(slow: object, **policy: object) -> Scripted:
    settings = {"quorum": 2, "patience": 0.1} | policy
    return scripted({"near": [FOUR], "far": [FOUR], "slow": [slow]}, [GUIDANCE], **settings)


def late(trace: Trace) -> list[tuple[str, str]]:
    return [(one.member, one.stage) for one in trace.late]


def test_a_late_draft_is_not_waited_for_and_is_no_failure() -> None:
    begun = time.monotonic()
    with team(SLOW) as colm:
        trace = colm.ask(QUESTION)
        assert time.monotonic() - begun < 5
        events = [event for event in colm.stream(QUESTION) if isinstance(event, Late)]
    assert late(trace) == [("slow", "draft")]
    assert 0.1 <= trace.late[0].waited < 5
    assert (trace.answer, trace.failures, trace.degraded) == ("4", (), False)
    assert [reply.client for reply in trace.refinements] == ["near", "far"]
    assert "slow: late, no longer waited for (Drafts)" in trace.notes
    assert Trace.from_dict(trace.to_dict()) == trace
    assert [event.member for event in events] == ["slow"]


def test_a_late_refinement_leaves_the_draft() -> None:
    with scripted(
        {"near": [FOUR, FIVE], "far": [FOUR, FIVE], "slow": [FOUR, SLOW]}, [GUIDANCE], quorum=2, patience=0.1
    ) as colm:
        trace = colm.ask(QUESTION)
    assert late(trace) == [("slow", "refine")]
    assert trace.answer == "5"
    assert trace.final["slow"].answer == "4"


def test_who_comes_within_the_patience_is_not_late() -> None:
    with team({"text": FIVE, "delay": 0.2}, patience=10.0) as colm:
        trace = colm.ask(QUESTION)
    assert late(trace) == []
    assert len(trace.drafts) == 3


def test_failures_do_not_count_towards_the_quorum() -> None:
    with scripted(
        {"near": [{"error": "unreachable"}], "far": [FOUR], "slow": [{"text": FIVE, "delay": 0.3}]},
        strategy="vote",
        quorum=2,
        patience=0.0,
    ) as colm:
        trace = colm.ask(QUESTION)
    assert [draft.client for draft in trace.drafts] == ["far", "slow"]
    assert trace.late == ()


def test_a_batch_does_not_ask_the_late_again(tmp_path: Path) -> None:
    questions = [Query(f"How many dots in {number}?", id=str(number)) for number in range(20)]
    for made in (20, 0):
        with team(SLOW, strategy="vote", patience=0.0) as colm:
            traces = list(colm.batch(questions, tmp_path / "out"))
            assert len(colm.requests("near")) == made
        assert [trace.answer for trace in traces] == ["4"] * 20
        assert all(late(trace) == [("slow", "draft")] for trace in traces)


async def test_a_thousand_late_calls_leave_no_place_taken() -> None:
    def member(name: str, url: str) -> dict[str, object]:
        return {"name": name, "backend": "openai", "model": name, "base_url": url, "max_concurrency": 8}

    answers: list[str | Fault] = [Fault("stall")]
    with Endpoint(FIVE) as quick, Endpoint(lambda _: answers[-1]) as stalled:
        clients = [member("near", quick.base_url), member("far", quick.base_url), member("slow", stalled.base_url)]
        policy = {"strategy": "vote", "quorum": 2, "patience": 0.0, "reply_format": "lines"}
        async with AsyncCoLM(Team.from_dict({"clients": clients, "policy": policy})) as colm:
            questions = [Query(f"How many dots in {number}?") for number in range(1000)]
            traces = [trace async for trace in colm.batch(questions, concurrency=8)]
            answers.append(FIVE)
            # All of its places are free: eight calls at once are answered.
            waited = [trace async for trace in colm.batch(questions[:8], concurrency=8, quorum=3)]
    assert all(trace.answer == "5" for trace in traces)
    assert sum(len(trace.late) for trace in traces) > 900
    assert [len(trace.drafts) for trace in waited] == [3] * 8
