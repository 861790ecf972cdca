"""`AsyncCoLM` on the caller's event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from typing_extensions import override

from colm_vl import (
    AsyncCoLM,
    BackendError,
    ClientReply,
    ConfigError,
    Decision,
    Delta,
    Gate,
    Image,
    ImageError,
    InputError,
    NoAnswer,
    Query,
    Team,
    Trace,
)
from colm_vl.backend_pool import BackendPool
from colm_vl.backends.base import Generation, Request
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


async def test_errors_are_those_of_the_synchronous_api(dots: Query) -> None:
    colm = engine()
    with pytest.raises(ConfigError, match="unknown key 'roundz'"):
        colm.stream("How many?", roundz=2)
    with pytest.raises(ConfigError):
        colm.batch([dots], concurrency=0)
    with pytest.raises(ImageError, match=r"none\.png"):
        await colm.ask("How many?", images=["none.png"])
    with pytest.raises(InputError, match="the Query has its own"):
        await colm.ask(dots, images=["none.png"])
    broken = AsyncCoLM(colm.team, backends={"near": ScriptedBackend([Reply(error="unreachable")])})
    with pytest.raises(NoAnswer):
        await broken.ask("How many?", strategy="vote")
    await colm.aclose()
    await colm.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        await colm.ask("How many?")


async def test_closing_a_stream_cancels_the_calls() -> None:
    async with engine(delay=60) as colm, aclosing(colm.stream("How many?")) as events:
        assert not isinstance(await anext(events), Delta)


@pytest.mark.parametrize("way", ["asyncio", "anyio"])
async def test_a_cancelled_batch_keeps_its_running_calls(tmp_path: Path, way: str) -> None:
    """anyio repeats a cancellation at every await, also during clean-up."""
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


class Endless(ScriptedBackend):
    """Waits for ever, and counts how often it is asked and closed."""

    def __init__(self) -> None:
        super().__init__(["unused"])
        self.asked = 0
        self.begun = asyncio.Event()
        self.closings = 0

    @override
    async def generate(self, request: Request) -> Generation:
        self.asked += 1
        self.begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    @override
    async def aclose(self) -> None:
        await asyncio.sleep(0.01)
        self.closings += 1


async def test_after_closing_nothing_is_called_again() -> None:
    endless = Endless()
    colm = AsyncCoLM(engine(strategy="vote", timeouts={"draft": 0.2}).team, backends={"near": endless})
    asking = asyncio.create_task(colm.ask("How many?"))
    await endless.begun.wait()
    await colm.aclose()
    with pytest.raises(NoAnswer):
        await asking
    with pytest.raises(RuntimeError, match="closed"):
        await colm.ask("How many?")
    assert (endless.asked, endless.closings) == (1, 1)
    pool = BackendPool({"near": endless})
    await pool.aclose()
    with pytest.raises(BackendError, match="near: not called, because this CoLM is closed"):
        async with pool.use(colm.team.clients[0]):
            pass


async def test_backends_are_closed_in_a_scope_that_is_cancelled() -> None:
    endless = Endless()
    with anyio.CancelScope() as scope:
        async with AsyncCoLM(engine(strategy="vote").team, backends={"near": endless}):
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    assert endless.closings == 1


async def test_a_backend_in_the_place_of_an_endpoint_is_timed_out() -> None:
    table = {"backend": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1"}
    policy = {"strategy": "vote", "timeouts": {"draft": 0.05}}
    team = Team.from_dict({"clients": [{"name": "near", **table}], "policy": policy})
    async with AsyncCoLM(team, backends={"near": Endless()}) as colm:
        with pytest.raises(NoAnswer, match=r"no reply within 0\.05 s"):
            await colm.ask("How many?")


@pytest.mark.parametrize(
    ("error", "told"),
    [(TimeoutError(), "near: timed out"), (asyncio.CancelledError(), "near: unexpected CancelledError")],
)
async def test_what_a_backend_raises_by_itself_is_its_failure(error: BaseException, told: str) -> None:
    class Raising(Endless):
        @override
        async def generate(self, request: Request) -> Generation:
            raise error

    async with AsyncCoLM(engine(strategy="vote").team, backends={"near": Raising()}) as colm:
        with pytest.raises(NoAnswer, match=told):
            await colm.ask("How many?")


async def test_gates_can_be_replaced_and_can_be_objects() -> None:
    class NeverGate(Gate):
        name = "never"

        @override
        def decide(self, replies: Mapping[str, ClientReply]) -> Decision:
            return Decision(False, "the server rests")

    async with engine(gate={"confidence": 0.8}) as colm:
        assert (await colm.ask("How many?", gate=NeverGate())).gates[0].reason == "the server rests"
        assert (await colm.ask("How many?", gate="disagreement")).gates[0].reason == "all answers agree"


async def test_thumbnails_are_made_in_a_thread(dots: Query, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = set[threading.Thread]()
    thumbnail = Image.thumbnail

    def watched(image: Image, pixels: int) -> Image:
        threads.add(threading.current_thread())
        return thumbnail(image, pixels)

    monkeypatch.setattr(Image, "thumbnail", watched)
    async with engine(share="thumbnails") as colm:
        await colm.ask(dots)
    assert threads
    assert threading.current_thread() not in threads
