"""Calls that several questions need at the same time."""

from __future__ import annotations

import asyncio
from pathlib import Path

from colm_vl import Query
from colm_vl.backends.base import Generation, Message, Sampling
from colm_vl.batch.sharing import Shared
from colm_vl.batch.tally import Tally
from colm_vl.run import CallKey
from colm_vl.store import MemoryStore
from tests.batch.runs import calls_made, near_and_far, read_lines
from tests.teams import FIVE, scripted


def _key() -> CallKey:
    with near_and_far() as colm:
        return CallKey(colm.team.clients[0], "draft", 0, 0, (Message("user", ("How many?",)),), Sampling())


def _same(count: int) -> list[Query]:
    return [Query("How many dots?", id=f"q{number}") for number in range(count)]


def test_rows_of_one_question_pay_for_it_once(tmp_path: Path) -> None:
    slow = {"text": FIVE, "delay": 0.05}
    with scripted({"near": [slow], "far": [slow]}, strategy="vote") as colm:
        tally = Tally()
        traces = list(colm.batch(_same(8), tmp_path / "out", tally=tally))
        assert calls_made(colm) == {"near": 1, "far": 1}
    assert [trace.answer for trace in traces] == ["5"] * 8
    assert (tally.calls, tally.avoided) == (2, 14)
    assert sum(not call.reused for trace in traces for call in trace.calls) == 2
    assert len(read_lines(tmp_path / "out" / "calls.jsonl")) == 2


def test_a_shared_call_that_fails_is_the_failure_of_all_who_waited(tmp_path: Path) -> None:
    gone = {"error": "timed_out", "delay": 0.05}
    with scripted({"near": [gone], "far": [FIVE]}, strategy="vote") as colm:
        traces = list(colm.batch(_same(8), tmp_path / "out", strategy="vote,solo:far,solo:near"))
        assert calls_made(colm) == {"near": 1, "far": 1}
    votes, alone = traces[::3], traces[2::3]
    assert all(trace.answer == "5" and trace.degraded for trace in votes)
    assert all([failure.kind for failure in trace.failures] == ["timed_out"] for trace in (*votes, *alone))


async def test_a_call_that_is_given_up_is_made_by_one_of_those_who_wait() -> None:
    key, shared = _key(), Shared(MemoryStore())
    made = []

    async def call() -> Generation | None:
        if (known := await shared.get(key)) is not None:
            return known
        shared.begin(key)
        made.append(key)
        await asyncio.sleep(0)
        await shared.put(key, Generation("5"))
        return None

    assert await shared.get(key) is None
    shared.begin(key)
    waiting = [asyncio.create_task(call()) for _ in range(4)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting[1:])
    shared.abandon([key.digest])
    assert await asyncio.gather(*waiting[1:]) == [None, Generation("5"), Generation("5")]
    assert len(made) == 1
    assert await shared.get(key) == Generation("5")
