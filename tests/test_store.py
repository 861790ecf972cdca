"""Call stores, with concurrent claims."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from colm_vl import Failure, Query, Team
from colm_vl.backends.base import Generation, Message, Sampling
from colm_vl.batch.journal import Journal
from colm_vl.batch.stats import BatchStats
from colm_vl.store import CallKey, CallStore, CallsUnderWay, Claim, MemoryStore, Outcome
from tests.batch.runs import calls_made, near_and_far, read_lines
from tests.teams import FIVE, scripted

_FIVE = Generation("Answer: 5")


def _key() -> CallKey:
    with near_and_far() as colm:
        return CallKey(colm.team.clients[0], "draft", 0, 0, (Message("user", ("How many?",)),), Sampling())


def _same(count: int) -> list[Query]:
    return [Query("How many dots?", id=f"q{number}") for number in range(count)]


def test_calls_of_equal_questions_are_made_once(tmp_path: Path) -> None:
    slow = {"text": FIVE, "delay": 0.05}
    with scripted({"near": [slow], "far": [slow]}, strategy="vote") as colm:
        stats = BatchStats()
        traces = list(colm.batch(_same(8), tmp_path / "out", stats=stats))
        assert calls_made(colm) == {"near": 1, "far": 1}
    assert [trace.answer for trace in traces] == ["5"] * 8
    assert (stats.calls, stats.avoided) == (2, 14)
    assert sum(not call.reused for trace in traces for call in trace.calls) == 2
    assert len(read_lines(tmp_path / "out" / "calls.jsonl")) == 2


def test_all_waiting_callers_get_the_failure_of_a_shared_call(tmp_path: Path) -> None:
    gone = {"error": "timed_out", "delay": 0.05}
    with scripted({"near": [gone], "far": [FIVE]}, strategy="vote") as colm:
        traces = list(colm.batch(_same(8), tmp_path / "out", strategy="vote,solo:far,solo:near"))
        assert calls_made(colm) == {"near": 1, "far": 1}
    votes, alone = traces[::3], traces[2::3]
    assert all(trace.answer == "5" and trace.degraded for trace in votes)
    assert all([failure.kind for failure in trace.failures] == ["timed_out"] for trace in (*votes, *alone))


@pytest.fixture(params=["memory", "behind", "journal", "yielding"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CallStore]:
    if request.param == "journal":
        with closing(Journal(tmp_path / "calls.jsonl")) as journal:
            yield journal
    elif request.param == "behind":
        yield MemoryStore(MemoryStore())
    else:
        yield Yielding() if request.param == "yielding" else MemoryStore()


class Yielding(CallsUnderWay):
    """A store that yields to the event loop wherever it may."""

    def __init__(self) -> None:
        super().__init__()
        self._outcomes: dict[str, Outcome] = {}

    @override
    @asynccontextmanager
    async def claim(self, key: CallKey) -> AsyncGenerator[Claim, None]:
        await asyncio.sleep(0)
        async with super().claim(key) as claim:
            await asyncio.sleep(0)
            yield claim
            await asyncio.sleep(0)
        await asyncio.sleep(0)

    @override
    async def _get(self, key: CallKey) -> Outcome | None:
        await asyncio.sleep(0)
        return self._outcomes.get(key.digest)

    @override
    async def _put(self, key: CallKey, outcome: Outcome) -> None:
        await asyncio.sleep(0)
        self._outcomes[key.digest] = outcome


class _Caller:
    """Makes the call if it holds the claim; the call lasts until `go` is set."""

    def __init__(self, store: CallStore) -> None:
        self.go = asyncio.Event()
        self.begun = asyncio.Event()
        self.made = 0
        self._store = store

    async def call(self, outcome: Outcome = _FIVE) -> Outcome | None:
        async with self._store.claim(_key()) as claim:
            if claim.outcome is None:
                self.made += 1
                self.begun.set()
                await self.go.wait()
                await claim.settle(outcome)
        return claim.outcome


async def test_one_of_the_claiming_callers_makes_the_call(store: CallStore) -> None:
    caller = _Caller(store)
    waiting = [asyncio.create_task(caller.call()) for _ in range(8)]
    await caller.begun.wait()
    caller.go.set()
    assert await asyncio.gather(*waiting) == [_FIVE] * 8
    assert await caller.call() == _FIVE
    assert caller.made == 1


async def test_a_waiting_caller_makes_the_call_if_its_holder_is_cancelled(store: CallStore) -> None:
    caller = _Caller(store)
    holder = asyncio.create_task(caller.call())
    await caller.begun.wait()
    waiting = [asyncio.create_task(caller.call()) for _ in range(4)]
    for _ in range(5):
        await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.wait(waiting[:1])
    assert not any(task.done() for task in waiting[1:])
    holder.cancel()
    caller.go.set()
    assert await asyncio.gather(*waiting[1:]) == [_FIVE] * 3
    assert caller.made == 2


async def test_waiting_callers_share_a_failure_and_later_ones_retry(tmp_path: Path) -> None:
    gone = Failure("near", "draft", "timed_out", "near: gone")
    with closing(Journal(tmp_path / "calls.jsonl")) as journal:
        caller = _Caller(journal)
        waiting = [asyncio.create_task(caller.call(gone)) for _ in range(3)]
        await caller.begun.wait()
        for _ in range(5):
            await asyncio.sleep(0)
        caller.go.set()
        assert await asyncio.gather(*waiting) == [gone] * 3
        assert await caller.call() == _FIVE
    assert caller.made == 2


@pytest.mark.parametrize("strategy", ["vote", "solo,vote,concat,verdict,colm"])
def test_a_batch_of_equal_questions_with_a_store_that_yields_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    """No code relies on a store that does not yield."""

    async def slowly(self: Journal, key: CallKey, found: Callable[..., Awaitable[Any]], *outcome: Outcome) -> Any:
        for _ in range(3):
            await asyncio.sleep(0)
        result = await found(self, key, *outcome)
        for _ in range(3):
            await asyncio.sleep(0)
        return result

    get, put = Journal._get, Journal._put
    monkeypatch.setattr(Journal, "_get", lambda self, key: slowly(self, key, get))
    monkeypatch.setattr(Journal, "_put", lambda self, key, outcome: slowly(self, key, put, outcome))
    with near_and_far() as colm:
        traces = list(colm.batch(_same(30), tmp_path / "out", strategy=strategy, concurrency=16))
        made = calls_made(colm)
    assert all(trace.answer == "5" for trace in traces)
    assert made == ({"near": 1, "far": 1, "server": 0} if strategy == "vote" else {"near": 3, "far": 3, "server": 2})


def test_a_schema_changes_the_key_of_a_call() -> None:
    team = Team.from_dict({"clients": [{"name": "a", "backend": "scripted", "model": "m", "replies": ["x"]}]})

    def digest(schema: dict[str, Any] | None) -> str:
        messages = (Message("user", ("How many?",)),)
        return CallKey(team.clients[0], "draft", 0, 0, messages, Sampling(), schema).digest

    assert digest(None) == "78164b71791fa109b172946ae6028ffe8590e4c93c655e919f6b96f093582352"
    assert len({digest(None), digest({"type": "object"}), digest({"type": "string"})}) == 3
