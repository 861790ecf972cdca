from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace

import pytest

from colm_vl import Query
from demos.messages import for_visitors
from demos.service import Asked, Busy, Service
from demos.view import QueuePosition
from demos.waiting import Full, WaitingLine
from tests.teams import FIVE, GUIDANCE, scripted

SLOW = {"text": FIVE, "delay": 30}


async def test_the_waiting_line_admits_in_order_and_refuses_when_full() -> None:
    waiting = WaitingLine(width=1, length=2)
    first, second, third = waiting.line_up(), waiting.line_up(), waiting.line_up()
    assert [ticket.admitted.is_set() for ticket in (first, second, third)] == [True, False, False]
    assert (second.ahead, third.ahead) == (0, 1)
    with pytest.raises(Full):
        waiting.line_up()
    waiting.leave(second)
    waiting.leave(first)
    waiting.leave(first)
    assert third.admitted.is_set()
    assert waiting.waiting == 0


async def test_a_question_is_answered() -> None:
    with scripted({"one": [FIVE], "two": [FIVE]}, [GUIDANCE]) as colm:
        trace = await Service(colm, WaitingLine(1, 1)).answer("a", Asked(Query("How many dots?"), {"strategy": "vote"}))
    assert (trace.answer, trace.strategy) == ("5", "vote")


async def test_a_visitor_sees_no_folder_of_a_prompt_profile() -> None:
    with scripted({"one": [FIVE]}, strategy="vote") as colm:
        trace = colm.ask("How many dots?")
    members = tuple(replace(member, prompts="../ours/dots.toml") for member in trace.members)
    shown = for_visitors(replace(trace, members=members))
    assert {member.prompts for member in shown.members} == {"dots.toml"}


async def test_stop_cancels_the_calls_and_keeps_finished_replies() -> None:
    with scripted({"one": [FIVE], "two": [SLOW]}, [GUIDANCE]) as colm:
        service = Service(colm, WaitingLine(1, 1))
        async for view in service.ask("a", Asked(Query("How many dots?"), {})):
            if view.drafts:
                service.stop("a")
        assert (view.phase, list(view.drafts), service.is_busy("a")) == ("stopped", ["one"], False)


async def test_leaving_cancels_the_calls_and_admits_the_next() -> None:
    with scripted({"one": [SLOW, FIVE]}, [GUIDANCE]) as colm:
        service = Service(colm, WaitingLine(1, 1))
        async with aclosing(service.ask("a", Asked(Query("How many dots?"), {}))) as views:
            async for view in views:
                if view.stage:
                    break
        async with asyncio.timeout(5):
            trace = await service.answer("b", Asked(Query("How many dots?"), {}))
        assert trace.answer == "5"


async def test_waiting_visitors_see_their_position_and_can_stop() -> None:
    with scripted({"one": [SLOW]}, [GUIDANCE]) as colm:
        service = Service(colm, WaitingLine(1, 2))
        lines = []
        first = service.ask("a", Asked(Query("How many dots?"), {}))
        await anext(first)
        second = service.ask("b", Asked(Query("How many dots?"), {}))
        await anext(second)
        async for view in service.ask("c", Asked(Query("How many dots?"), {})):
            lines.append(view.line)
            service.stop("c")
        assert lines[0] == QueuePosition(ahead=1, length=2)
        assert view.phase == "stopped"
        with pytest.raises(Busy):
            await anext(service.ask("a", Asked(Query("How many dots?"), {})))
        await first.aclose()
        await second.aclose()


async def test_visitors_at_once_get_their_own_answers() -> None:
    def echo(request: object) -> str:
        text = "\n".join(message.text for message in request.messages)  # type: ignore[attr-defined]
        return f"Answer: {next(word for word in ('amber', 'violet', 'indigo') if word in text)}"

    with scripted({"one": echo, "two": echo}, [GUIDANCE]) as colm:
        service = Service(colm, WaitingLine(2, 4))
        words = ["amber", "violet", "indigo"]
        traces = await asyncio.gather(*(service.answer(word, Asked(Query(f"Say {word}"), {})) for word in words))
    assert [trace.answer for trace in traces] == words


async def test_strategies_are_compared_and_a_batch_is_answered() -> None:
    with scripted({"one": [FIVE], "two": [FIVE]}, [GUIDANCE]) as colm:
        service = Service(colm, WaitingLine(1, 1))
        asked = Asked(Query("How many dots?"), {"strategy": "colm", "rounds": 2})
        done = [list(traces) async for traces in service.compare("a", asked, ["solo:one", "vote"])][-1]
        assert [trace.strategy for trace in done] == ["solo:one", "vote"]
        queries = [Query("How many dots?", id=str(number)) for number in range(5)]
        done = [list(traces) async for traces in service.batch("a", queries, {"strategy": "vote"})][-1]
        assert [trace.id for trace in done] == list("01234")
