"""A team whose server is a guidance service, over real connections."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from colm_vl import Delta, Generation, Query, Queued, Trace
from colm_vl.backends.scripted import Reply, ScriptedBackend
from colm_vl.errors import ConfigError
from colm_vl.events import Event
from colm_vl.guides import read_verdict
from colm_vl.prompts import LABELLED_LINES
from colm_vl.service.app import create_app
from colm_vl.service.context import Service
from colm_vl.team import Team
from tests.service.guided import TABLE, Guided, client, one_place
from tests.service.running import serving
from tests.teams import FIVE, FOUR, GUIDANCE


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLM_TEST_KEY", "key-of-ann")
    monkeypatch.setenv("COLM_TEST_OTHER_KEY", "key-of-bob")


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


@pytest.mark.parametrize("choice", ["Z", "", None])
def test_a_choice_that_the_question_does_not_have_is_not_believed(choice: str | None) -> None:
    said = Generation("Answer: (B)", reading={"answer": "a cow", "choice": choice})
    verdict = read_verdict(said, Query("Which?", choices=("a cat", "a dog")), LABELLED_LINES)
    assert (verdict.choice, verdict.answer) == ("B", "a dog")


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
    guided = Guided(server, one_place())
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
    assert [(event.member, event.stage, event.ahead) for event in waited] == [
        ("server", "guide", 0),
        ("server", "guide", None),
    ]
    traces = [await last(seen) for seen in both]
    timings = [call.timing for trace in traces for call in trace.calls if call.stage == "guide"]
    first, second = sorted(timings, key=lambda timing: timing.queued or 0)
    assert (second.queued or 0) - (first.queued or 0) >= 0.2
    # The delay is 0.3 s; a busy client notices late that its call has started.
    assert all((timing.prefill or 0) >= 0.15 for timing in timings)


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
            pictures = guided.service.pictures.store
            for kept in list(pictures._files):
                pictures._drop(kept)
            trace = await colm.ask("How many dots?", dots.images)
    assert not trace.failures
    assert next(call.sent.images for call in trace.calls if call.stage == "guide") == 1


async def test_two_clients_of_one_key_share_an_equal_call_and_two_keys_never() -> None:
    server = ScriptedBackend([Reply(text=GUIDANCE, delay=1.5)])
    with Guided(server).running() as url:
        async with client(url) as first, client(url) as second, client(url, key="COLM_TEST_OTHER_KEY") as other:
            traces = await asyncio.gather(*(colm.ask("How many dots?") for colm in (first, second, other)))
    assert {trace.guidance[0].text for trace in traces} == {GUIDANCE}
    assert sorted(request.scope for request in server.requests) == ["key-of-ann", "key-of-bob"]


async def test_a_batch_is_resumed_without_asking_the_service_again(dots: Query, tmp_path: Path) -> None:
    server = ScriptedBackend([GUIDANCE])
    queries = [replace(dots, question=f"How many {number}?", choices=("5", "4")) for number in range(3)]

    async def batch(url: str, *strategies: str) -> list[Trace]:
        async with client(url) as colm:
            return [trace async for trace in colm.batch(queries, tmp_path / "run", strategy=strategies)]

    with Guided(server).running() as url:
        first = await batch(url, "colm", "verdict")
        asked = len(server.requests)
        (tmp_path / "run" / "traces.jsonl").unlink()
        again = await batch(url, "colm", "verdict")
    assert asked == len(server.requests) == 6
    assert [trace.guidance for trace in again] == [trace.guidance for trace in first]
    assert [trace.verdict for trace in again] == [trace.verdict for trace in first]
    assert all(trace.guidance[0].check == "count the dots in the corner" for trace in again[::2])


async def test_a_check_asks_the_service_for_verdicts() -> None:
    colours = ScriptedBackend(["Answer: red", "Answer: blue"])
    with Guided(colours).running() as url:
        async with client(url) as colm:
            _, health = await colm.check()
    assert (health.member.name, health.problem, health.sees, health.formats) == ("server", "", True, None)
    async with client(url, server={"max_retries": 0}) as colm:
        _, health = await colm.check()
    assert "cannot be reached" in health.problem


async def test_a_batch_with_a_service_is_planned_without_calling_it(dots: Query) -> None:
    async with client("http://127.0.0.1:9", strategy="colm") as colm:
        plan = await colm.plan([dots])
    assert {call.stage for call in plan.calls} == {"draft", "guide", "refine"}


async def test_a_service_can_pass_on_to_another_one(dots: Query) -> None:
    with Guided().running() as url:
        table = {"backend": "colm", "base_url": url, "api_key_env": "COLM_TEST_KEY"}
        team = Team.from_dict({"clients": [{"name": "own", **TABLE}], "server": table})
        with serving(create_app(Service(team))) as between:
            async with client(between) as colm:
                seen = [event async for event in colm.stream(dots)]
    trace = await last(seen)
    assert not trace.failures
    assert trace.guidance[0].text == GUIDANCE
    assert "".join(event.text for event in seen if isinstance(event, Delta) and event.stage == "guide") == GUIDANCE


async def test_a_guidance_service_cannot_be_a_client() -> None:
    table = {"backend": "colm", "base_url": "http://127.0.0.1:1"}
    with pytest.raises(ConfigError, match="cannot be a client"):
        Team.from_dict({"clients": [{"name": "eyes", **table}]})
    team = Team.from_dict(
        {"clients": [{"name": "eyes", **TABLE}], "server": {**table, "base_url": "http://box:8700/v1/"}}
    )
    assert team.server is not None
    assert (team.server.label, team.server.options.base_url) == ("guidance service", "http://box:8700")  # type: ignore[attr-defined]
