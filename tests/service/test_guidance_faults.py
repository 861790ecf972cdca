"""A guidance service that fails, is full, or is left by its clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from colm_vl import Query
from colm_vl.backends.scripted import Reply, ScriptedBackend
from colm_vl.service.queue import Quota
from tests.service.guided import Guided, client, one_place
from tests.service.test_queued import waiting
from tests.teams import GUIDANCE


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLM_TEST_KEY", "key-of-ann")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the service runs in another thread
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        ("timed_out", "timed_out", "did not answer in time"),
        ("context_too_long", "context_too_long", "does not fit the context"),
        ("unsupported", "unsupported", "does not take these pictures"),
        ("model_not_found", "unavailable", "failed or cannot be reached"),
        ("refused", "unavailable", "failed or cannot be reached"),
    ],
)
async def test_a_failure_of_its_server_is_told_by_its_kind_without_details(
    error: str, kind: str, said: str, dots: Query
) -> None:
    server = ScriptedBackend([Reply(error=error, text="secret-model at http://10.0.0.7:8000 said no")])
    with Guided(server).running() as url:
        async with client(url, server={"max_retries": 0}) as colm:
            trace = await colm.ask(dots)
    assert trace.answer == "5"
    (failure,) = trace.failures
    assert (failure.kind, failure.member) == (kind, "server")
    assert said in failure.message
    assert "secret-model" not in failure.message + failure.hint
    assert "10.0.0.7" not in failure.message + failure.hint


async def test_a_temporary_failure_is_retried(dots: Query) -> None:
    server = ScriptedBackend([Reply(error="unavailable", times=2), GUIDANCE])
    with Guided(server).running() as url:
        async with client(url) as colm:
            trace = await colm.ask(dots)
    assert trace.guidance
    assert next(call.attempts for call in trace.calls if call.stage == "guide") == 3


async def test_who_asks_too_often_is_told_to_wait(dots: Query) -> None:
    with Guided(quotas={"key-of-ann": Quota(requests_per_minute=1)}).running() as url:
        async with client(url, server={"max_retries": 0}) as colm:
            await colm.ask("How many?")
            trace = await colm.ask("How many dots?")
    (failure,) = trace.failures
    assert failure.kind == "rate_limited"
    assert "1 requests a minute" in failure.message


async def test_a_full_queue_refuses_and_the_client_asks_again(dots: Query) -> None:
    server = ScriptedBackend([Reply(text=GUIDANCE, delay=0.2)])
    with Guided(server, one_place(waiting=1)).running() as url:
        async with client(url, server={"max_retries": 8}) as colm:
            traces = await asyncio.gather(*(colm.ask(f"How many {number}?") for number in range(4)))
    assert [len(trace.guidance) for trace in traces] == [1] * 4


async def test_a_client_that_goes_away_frees_its_place_and_cancels_the_call(dots: Query) -> None:
    server = ScriptedBackend([Reply(text=GUIDANCE, delay=60)])
    guided = Guided(server, one_place())
    with guided.running() as url:
        queue = guided.service.places.queue
        async with client(url) as colm:
            tasks = [asyncio.create_task(colm.ask(f"How many {number}?", dots.images)) for number in range(3)]
            await waiting(queue, 2)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await until(lambda: (queue.serving, queue.waiting) == (0, 0))


async def test_the_time_in_the_queue_does_not_count(dots: Query) -> None:
    server = ScriptedBackend([Reply(text=GUIDANCE, delay=0.4)])
    with Guided(server, one_place()).running() as url:
        async with client(url, timeouts={"guide": 1.0}) as colm:
            traces = await asyncio.gather(*(colm.ask(f"How many {number}?") for number in range(5)))
    assert not [trace.failures for trace in traces if trace.failures]


async def test_a_call_that_waits_too_long_in_the_queue_is_given_up() -> None:
    server = ScriptedBackend([Reply(text=GUIDANCE, delay=1.5)])
    with Guided(server, one_place()).running() as url:
        async with client(url) as patient, client(url, server={"queue_timeout": 0.3}) as hasty:
            first = asyncio.create_task(patient.ask("How many dots?"))
            await until(lambda: len(server.requests) == 1)
            trace = await hasty.ask("How many?")
            assert (await first).guidance
    (failure,) = trace.failures
    assert failure.kind == "timed_out"
    assert "waited for 0.3 s in its queue" in failure.message


async def test_a_call_that_takes_too_long_is_given_up(dots: Query) -> None:
    server = ScriptedBackend([Reply(text=GUIDANCE, delay=60)])
    guided = Guided(server, one_place())
    with guided.running() as url:
        queue = guided.service.places.queue
        async with client(url, timeouts={"guide": 0.2}) as colm:
            trace = await colm.ask(dots)
        await until(lambda: queue.serving == 0)
    (failure,) = trace.failures
    assert (failure.kind, failure.message) == ("timed_out", "server: no reply within 0.2 s")


async def test_a_service_that_is_down_is_a_failure_and_the_drafts_decide(dots: Query) -> None:
    with Guided().running() as url:
        pass
    async with client(url, server={"max_retries": 0}) as colm:
        trace = await colm.ask(dots)
    assert (trace.answer, trace.fallback) == ("5", "vote")
    assert trace.failures[0].kind == "unreachable"


@asynccontextmanager
async def answering(bodies: Sequence[str], content_type: str) -> AsyncIterator[str]:
    """A server that answers with these bodies in order; the last one stays. It never answers with an empty one."""
    left = list(bodies)

    async def answer(request: web.BaseRequest) -> web.Response:
        await request.read()
        body = left.pop(0) if len(left) > 1 else left[0]
        if not body:
            await asyncio.Event().wait()
        return web.Response(text=body, content_type=content_type)

    runner = web.ServerRunner(web.Server(answer, handler_cancellation=True), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


DELTA = 'data: {"type": "delta", "text": "Evidence"}\n\n'
QUEUED = 'data: {"type": "queued", "ahead": 2}\n\n'
REPLY = f"data: {json.dumps({'type': 'reply', 'reply': {'text': GUIDANCE, 'own': GUIDANCE}})}\n\n"


async def test_a_stream_that_breaks_off_is_asked_for_again_unless_its_text_was_shown() -> None:
    async with answering([DELTA, QUEUED + DELTA + REPLY], "text/event-stream") as url, client(url) as colm:
        trace = await colm.ask("How many?")
    assert trace.guidance[0].text == GUIDANCE
    async with answering([QUEUED, QUEUED + DELTA + REPLY], "text/event-stream") as url, client(url) as colm:
        *_, trace = [event async for event in colm.stream("How many?")]
    assert trace.guidance[0].text == GUIDANCE
    async with answering([DELTA, DELTA + REPLY], "text/event-stream") as url, client(url) as colm:
        *_, trace = [event async for event in colm.stream("How many?")]
    assert "ended before it was finished" in trace.failures[0].message


async def test_the_time_goes_on_when_a_stream_breaks_off_in_the_queue() -> None:
    async with answering([QUEUED, ""], "text/event-stream") as url, client(url, timeouts={"guide": 0.3}) as colm:
        trace = await asyncio.wait_for(colm.ask("How many?"), 10)
    assert trace.failures[0].message == "server: no reply within 0.3 s"


@pytest.mark.parametrize(
    ("body", "content_type", "kind", "said"),
    [
        ("<html>Sign in</html>", "text/html", "bad_reply", "not a stream of events"),
        ("data: {}\n\n", "text/event-stream", "bad_reply", "garbled"),
        ("data: nonsense\n\n", "text/event-stream", "bad_reply", "garbled"),
        (": keep-alive\n\n", "text/event-stream", "bad_reply", "ended before"),
        (
            'data: {"type": "reply", "reply": {"flaws": 3}}\n\n',
            "text/event-stream",
            "bad_reply",
            "does not follow the protocol",
        ),
        (
            'data: {"type": "error", "error": {"message": "key-of-ann is wrong", "type": "refused"}}\n\n',
            "text/event-stream",
            "refused",
            r"\[key\] is wrong",
        ),
    ],
)
async def test_replies_that_are_none_are_told_in_one_line(
    body: str, content_type: str, kind: str, said: str, dots: Query
) -> None:
    async with answering([body], content_type) as url, client(url, server={"max_retries": 0}) as colm:
        trace = await colm.ask("How many?")
    (failure,) = trace.failures
    assert failure.kind == kind
    assert pytest.raises(AssertionError, match=said).matches(AssertionError(failure.message)), failure.message


async def test_a_call_that_two_clients_share_goes_on_if_one_of_them_leaves(dots: Query) -> None:
    server = ScriptedBackend([Reply(text=GUIDANCE, delay=0.4)])
    guided = Guided(server)
    with guided.running() as url:
        async with client(url) as first, client(url) as second:
            leaving, staying = (asyncio.create_task(colm.ask(dots)) for colm in (first, second))
            await until(lambda: guided.service.places.queue.serving == 1)
            leaving.cancel()
            assert len((await staying).guidance) == 1
        await until(lambda: guided.service.places.queue.serving == 0)
