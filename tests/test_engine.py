"""`AsyncCoLM` on the caller's event loop."""

from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing
from pathlib import Path

import anyio
import pytest

from colm_vl import AsyncCoLM, ConfigError, Delta, ImageError, InputError, NoAnswer, Query, Team, Trace
from colm_vl.backends.base import Request
from colm_vl.backends.scripted import Reply, ScriptedBackend
from tests.batch.runs import read_lines
from tests.teams import FIVE, GUIDANCE, scripted


def engine(*, delay: float = 0.0, **policy: object) -> AsyncCoLM:
    """A team of one client and a server."""
    like = scripted({"near": [{"text": FIVE, "delay": delay}]}, [GUIDANCE], **policy)
    return AsyncCoLM(like.team, backends=like.backends)


async def test_it_asks_streams_compares_plans_and_checks_on_the_callers_loop(dots_png: bytes, tmp_path: Path) -> None:
    threads = set[threading.Thread]()

    def reply(request: Request) -> str:
        threads.add(threading.current_thread())
        return FIVE

    like = scripted({"near": reply}, reply)
    async with AsyncCoLM(like.team, backends=like.backends) as colm:
        assert (await colm.ask("How many?", images=[dots_png], choices=["4", "5"])).choice == "B"
        events = [event async for event in colm.stream("How many?", images=dots_png)]
        assert isinstance(events[-1], Trace)
        assert [trace.strategy async for trace in colm.compare("How many?", ["vote", "colm"])] == ["vote", "colm"]
        questions = [Query("How many?", id="a"), Query("And here?", id="b")]
        assert (await colm.plan(questions)).total == 2 * 3
        assert [trace.answer async for trace in colm.batch(questions, tmp_path / "out")] == ["5", "5"]
        assert [health.works for health in await colm.check()] == [True, True]
    assert threads == {threading.current_thread()}
    assert [line["id"] for line in read_lines(tmp_path / "out" / "answers.jsonl")] == ["a", "b"]


async def test_what_is_wrong_is_told_as_by_the_synchronous_face(dots: Query) -> None:
    colm = engine()
    with pytest.raises(ConfigError, match="unknown key 'roundz'"):
        colm.stream("How many?", roundz=2)
    with pytest.raises(ConfigError):
        colm.batch([dots], concurrency=0)
    with pytest.raises(ImageError, match=r"none\.png"):
        await colm.ask("How many?", images=["none.png"])
    with pytest.raises(InputError, match="beside a Query"):
        await colm.ask(dots, images=["none.png"])
    broken = AsyncCoLM(colm.team, backends={"near": ScriptedBackend([Reply(error="unreachable")])})
    with pytest.raises(NoAnswer):
        await broken.ask("How many?", strategy="vote")
    await colm.aclose()
    await colm.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        await colm.ask("How many?")


async def test_closing_a_stream_stops_the_work() -> None:
    async with engine(delay=60) as colm, aclosing(colm.stream("How many?")) as events:
        assert not isinstance(await anext(events), Delta)


@pytest.mark.parametrize("way", ["asyncio", "anyio"])
async def test_a_cancelled_batch_keeps_the_calls_that_are_under_way(tmp_path: Path, way: str) -> None:
    """anyio cancels again at every wait, the ones of the clean-up included."""
    like = scripted({"near": [{"text": FIVE, "delay": 0.1}]}, strategy="vote")
    questions = [Query(f"How many in {number}?", id=str(number)) for number in range(50)]
    begun = asyncio.Event()

    async def follow(colm: AsyncCoLM) -> None:
        async with aclosing(colm.batch(questions, tmp_path / "out", concurrency=8)) as traces:
            async for _ in traces:
                begun.set()

    async with AsyncCoLM(like.team, backends=like.backends) as colm:
        if way == "anyio":
            async with anyio.create_task_group() as group:
                group.start_soon(follow, colm)
                await begun.wait()
                group.cancel_scope.cancel()
        else:
            task = asyncio.create_task(follow(colm))
            await begun.wait()
            task.cancel()
            await asyncio.wait([task])
    made = len(like.requests("near"))
    assert len(read_lines(tmp_path / "out" / "calls.jsonl")) == made < 50
    assert len(read_lines(tmp_path / "out" / "answers.jsonl")) == made


async def test_policies_of_one_question() -> None:
    async with engine() as colm:
        assert (await colm.ask("How many?", strategy="vote")).guidance == ()
        with pytest.raises(ConfigError, match="max_loaded"):
            await colm.ask("How many?", max_loaded=1)


def test_a_team_file_is_enough() -> None:
    assert AsyncCoLM.from_team(rounds=2).team.policy.rounds == 2
    assert isinstance(AsyncCoLM.from_team().team, Team)
