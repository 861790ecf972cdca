"""Calls of a team's server through the queue: in whose name they wait, and when their time begins."""

from __future__ import annotations

import asyncio

import pytest

from colm_vl import AsyncCoLM, Queued, Team, Trace
from colm_vl.backends.scripted import Reply, ScriptedBackend
from colm_vl.service.queue import Caller, FairQueue, Quota
from colm_vl.service.queued import QueuedBackend, visit
from colm_vl.service.shared import PlacesHere
from tests.teams import FIVE, GUIDANCE

ANN, BOB = Caller("ann"), Caller("bob")


def team(server: ScriptedBackend, queue: FairQueue, **policy: object) -> AsyncCoLM:
    table = {"backend": "scripted", "model": "script", "replies": [FIVE]}
    made = Team.from_dict({"clients": [{"name": "eyes", **table}], "server": table, "policy": policy})
    return AsyncCoLM(made, backends={"server": QueuedBackend(server, PlacesHere(queue), times=False)})


async def waiting(queue: FairQueue, count: int) -> None:
    """Returns once so many calls wait."""
    async with asyncio.timeout(10):
        while queue.waiting < count:  # noqa: ASYNC110 - the queue tells nobody of calls that begin to wait
            await asyncio.sleep(0.001)


async def ask(colm: AsyncCoLM, caller: Caller, question: str = "How many dots?") -> str:
    with visit(caller):
        return (await colm.ask(question)).answer


async def test_each_call_of_the_server_waits_in_the_name_of_its_caller() -> None:
    server, queue = ScriptedBackend([Reply(text=GUIDANCE, delay=0.05)]), FairQueue(1)
    async with team(server, queue) as colm:
        assert await asyncio.gather(ask(colm, ANN, "1?"), ask(colm, ANN, "2?"), ask(colm, BOB, "3?")) == ["5", "5", "5"]
    assert {request.scope for request in server.requests} == {"ann", "bob"}
    assert server.closed
    assert queue.tokens_today(ANN) == 2 * queue.tokens_today(BOB) > 0


async def test_a_stream_tells_the_place_in_the_queue() -> None:
    server, queue = ScriptedBackend([Reply(text=GUIDANCE, delay=0.05)]), FairQueue(1)

    async def places(colm: AsyncCoLM, caller: Caller, question: str) -> list[int | None]:
        with visit(caller):
            events = colm.stream(question)
            return [event.ahead async for event in events if isinstance(event, Queued)]

    async with team(server, queue) as colm:
        told = await asyncio.gather(*(places(colm, ANN, f"{number}?") for number in range(3)))
    assert told == [[], [0, None], [1, None]]  # the last one looks again only after a second


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_timeout_of_a_call_begins_when_it_has_a_place(streamed: bool) -> None:
    server, queue = ScriptedBackend([Reply(text=GUIDANCE, delay=0.2)]), FairQueue(1)
    async with team(server, queue, timeouts={"guide": 0.35}) as colm:
        traces = await asyncio.gather(*(_trace(colm, f"{number}?", streamed) for number in range(4)))
    assert not [trace.failures for trace in traces if trace.failures]
    late = ScriptedBackend([Reply(text=GUIDANCE, delay=5)])
    async with team(late, queue, timeouts={"guide": 0.05}) as colm:
        (failure,) = (await _trace(colm, "late?", streamed)).failures
    assert (failure.kind, failure.message) == ("timed_out", "server: no reply within 0.05 s")
    assert queue.serving == 0


async def test_a_question_that_is_cancelled_gives_its_place_back() -> None:
    server, queue = ScriptedBackend([Reply(text=GUIDANCE, delay=60)]), FairQueue(1)
    async with team(server, queue) as colm:
        tasks = [asyncio.create_task(ask(colm, ANN, f"{number}?")) for number in range(3)]
        await waiting(queue, 2)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert (queue.serving, queue.waiting) == (0, 0)


async def test_a_call_that_is_refused_is_a_failure_and_the_team_goes_on() -> None:
    server, queue = ScriptedBackend([GUIDANCE]), FairQueue(1)
    async with team(server, queue) as colm:
        with visit(Caller("ann", quota=Quota(tokens_per_day=1))):
            trace = await colm.ask("How many dots?")
    assert trace.answer == "5"
    (failure,) = trace.failures
    assert failure.kind == "not_admitted"
    assert "1 tokens a day" in failure.message
    assert not server.requests


async def test_a_failed_call_costs_no_tokens() -> None:
    queue = FairQueue(1)
    async with team(ScriptedBackend([Reply(error="unavailable")]), queue) as colm:
        await ask(colm, ANN)
    assert queue.tokens_today(ANN) == 0


async def _trace(colm: AsyncCoLM, question: str, streamed: bool) -> Trace:
    if not streamed:
        return await colm.ask(question)
    *_, trace = [event async for event in colm.stream(question)]
    assert isinstance(trace, Trace)
    return trace
