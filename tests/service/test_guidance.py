"""A team whose server is a guidance service, over real connections."""

from __future__ import annotations

import asyncio

import pytest

from colm_vl import Delta, Query, Queued, Trace
from colm_vl.backends.scripted import Reply, ScriptedBackend
from colm_vl.errors import ConfigError
from colm_vl.service.queue import FairQueue
from colm_vl.team import Team
from colm_vl.types import Event
from tests.service.guided import TABLE, Guided, client
from tests.teams import FIVE, FOUR, GUIDANCE


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLM_TEST_KEY", "ann")
    monkeypatch.setenv("COLM_TEST_OTHER_KEY", "bob")


async def last(events: list[Event]) -> Trace:
    assert isinstance(events[-1], Trace)
    return events[-1]


async def test_guidance_comes_from_the_service(dots: Query) -> None:
    server = ScriptedBackend([Reply(text=GUIDANCE, prompt_tokens=70, completion_tokens=9, cached_tokens=5)])
    with Guided(server).running() as url:
        eyes, ears = ScriptedBackend([FOUR, FIVE]), ScriptedBackend([FIVE])
        async with client(url, clients={"eyes": eyes, "ears": ears}) as colm:
            trace = await colm.ask(dots)
    (guidance,) = trace.guidance
    assert (guidance.server, guidance.text, guidance.check) == ("server", GUIDANCE, "count the dots in the corner")
    assert trace.answer == "5"
    assert not trace.failures
    assert GUIDANCE in eyes.requests[1].messages[-1].text
    call = next(call for call in trace.calls if call.stage == "guide")
    assert (call.usage.prompt_tokens, call.usage.cached_tokens, call.usage.completion_tokens) == (70, 5, 9)
    assert (call.sent.images, call.sent.pixels) == (1, 84 * 56)
    asked = "\n".join(message.text for message in server.requests[0].messages)
    assert FOUR.splitlines()[0] in asked
    assert server.requests[0].images[0].digest == dots.images[0].digest


@pytest.mark.parametrize("strategy", ["server", "verdict", "moa"])
async def test_verdicts_come_from_the_service(strategy: str, dots: Query) -> None:
    with Guided(ScriptedBackend([FOUR])).running() as url:
        async with client(url, strategy=strategy) as colm:
            trace = await colm.ask(dots)
    assert trace.verdict is not None
    assert (trace.answer, trace.verdict.caption, trace.verdict.confidence.value) == ("4", "four dots", 0.6)


async def test_the_service_selects_clients(dots: Query) -> None:
    server = ScriptedBackend([Reply(text="nobody\nears", when="How many dots")])
    with Guided(server).running() as url:
        members = {name: ScriptedBackend([FIVE]) for name in ("eyes", "ears")}
        async with client(url, clients=members, top_k=1, strategy="vote") as colm:
            trace = await colm.ask(dots)
    assert trace.selection is not None
    assert (trace.selection.clients, trace.selection.method, trace.selection.dropped) == (
        ("ears",),
        "server",
        ("nobody",),
    )


async def test_a_stream_shows_what_the_service_writes_and_the_place_in_its_queue(dots: Query) -> None:
    server = ScriptedBackend([Reply(text=GUIDANCE, delay=0.3)])
    guided = Guided(server, FairQueue(1))
    with guided.running() as url:
        async with client(url) as first, client(url) as second:

            async def events(colm, question: str) -> list[Event]:  # type: ignore[no-untyped-def]
                return [event async for event in colm.stream(question, dots.images)]

            both = await asyncio.gather(events(first, "How many?"), events(second, "How many dots?"))
    for seen in both:
        written = [event.text for event in seen if isinstance(event, Delta) and event.stage == "guide"]
        assert len(written) > 1
        assert "".join(written) == GUIDANCE
        assert (await last(seen)).answer == "5"
    waited = [event for seen in both for event in seen if isinstance(event, Queued)]
    assert [(event.member, event.stage, event.ahead) for event in waited] == [("server", "guide", 0)]


async def test_a_picture_is_uploaded_once(dots: Query) -> None:
    with Guided().running() as url:
        async with client(url) as colm:
            traces = [await colm.ask(question, dots.images) for question in ("How many?", "How many dots?")]
        async with client(url) as again:
            traces.append(await again.ask("Once more?", dots.images))
        async with client(url, key="COLM_TEST_OTHER_KEY") as other:
            traces.append(await other.ask("Once more?", dots.images))
    sent = [next(call.sent for call in trace.calls if call.stage == "guide") for trace in traces]
    assert [each.images for each in sent] == [1, 0, 0, 1]
    assert [each.pixels for each in sent] == [84 * 56, 0, 0, 84 * 56]
    assert all(0 < each.bytes < 2000 for each in sent)


async def test_a_picture_that_the_service_has_dropped_is_uploaded_again(dots: Query) -> None:
    guided = Guided()
    with guided.running() as url:
        async with client(url) as colm:
            await colm.ask("How many?", dots.images)
            guided.pictures._make_room("nobody")
            for key in list(guided.pictures._files):
                guided.pictures._drop(key)
            trace = await colm.ask("How many dots?", dots.images)
    assert not trace.failures
    assert next(call.sent.images for call in trace.calls if call.stage == "guide") == 1


async def test_two_clients_of_one_key_share_an_equal_call_and_two_keys_never(dots: Query) -> None:
    server = ScriptedBackend([Reply(text=GUIDANCE, delay=0.3)])
    with Guided(server).running() as url:
        async with client(url) as first, client(url) as second, client(url, key="COLM_TEST_OTHER_KEY") as other:
            traces = await asyncio.gather(*(colm.ask(dots) for colm in (first, second, other)))
    assert {trace.guidance[0].text for trace in traces} == {GUIDANCE}
    assert sorted(request.scope for request in server.requests) == ["ann", "bob"]


async def test_a_guidance_service_cannot_be_a_client() -> None:
    table = {"backend": "colm", "base_url": "http://127.0.0.1:1"}
    with pytest.raises(ConfigError, match="cannot be a client"):
        Team.from_dict({"clients": [{"name": "eyes", **table}]})
    team = Team.from_dict(
        {"clients": [{"name": "eyes", **TABLE}], "server": {**table, "base_url": "http://box:8700/v1/"}}
    )
    assert team.server is not None
    assert (team.server.label, team.server.options.base_url) == ("guidance service", "http://box:8700")  # type: ignore[attr-defined]
