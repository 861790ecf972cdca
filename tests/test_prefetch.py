"""The server reads pictures and question while the clients draft."""

from __future__ import annotations

import pytest
from PIL import Image as Picture

from colm_vl import BatchStats, CoLM, Image, Query, Team, Usage
from colm_vl.backends.base import Message
from colm_vl.prompts import guidance_messages, guidance_prefix
from eval.costs import CallTimes, Cost, Prefetching, cost
from tests.endpoint import Endpoint, Reply, Seen
from tests.teams import FIVE, FOUR, GUIDANCE, scripted

QUESTION = "How many dots are there?"


def query() -> Query:
    return Query(QUESTION, (Image.open(Picture.new("RGB", (40, 40), "red")),), ("four", "five"))


@pytest.mark.parametrize("hidden", [False, True])
def test_the_prefix_is_the_beginning_of_the_guidance_prompt(hidden: bool) -> None:
    whole = guidance_messages(query(), {"near": FIVE, "far": FOUR}, images_hidden=hidden, distinct=["5", "4"])
    prefix = guidance_prefix(query(), images_hidden=hidden)
    assert prefix[:-1] == whole[:-1]
    *pictures, text = prefix[-1].parts
    assert list(whole[-1].parts[:-1]) == pictures
    assert isinstance(text, str)
    assert str(whole[-1].parts[-1]).startswith(text)
    assert "(B) five" in text
    assert "near" not in text


def test_the_server_reads_while_the_clients_draft() -> None:
    with scripted(
        {"near": [{"text": FOUR, "delay": 0.2}, FIVE], "far": [{"text": FIVE, "delay": 0.2}, FIVE]},
        [{"text": "Ok"}, GUIDANCE],
        prefetch=True,
    ) as colm:
        trace = colm.ask(query())
        first, second = colm.requests("server")
    assert first.sampling.max_tokens == 1
    assert second.continues is not None
    assert _text(second.messages[-1]).startswith(_text(first.messages[-1]))
    calls = {(call.stage, call.member): call for call in trace.calls}
    assert calls["prefetch", "server"].started < 0.2
    assert trace.answer == "five"
    assert len(trace.guidance) == 1
    assert not trace.degraded


def test_a_prefetch_that_fails_is_no_failure() -> None:
    with scripted({"near": [FOUR, FIVE]}, [{"error": "unreachable"}, GUIDANCE], prefetch=True) as colm:
        trace = colm.ask(QUESTION)
    assert (trace.answer, trace.failures) == ("5", ())


def test_a_prefetch_ends_if_the_gate_skips_the_server_and_the_trace_says_what_was_sent() -> None:
    with scripted(
        {"near": [FIVE], "far": [FIVE]}, [{"text": "Ok", "delay": 60}], prefetch=True, gate="disagreement"
    ) as colm:
        trace = colm.ask(query())
        assert len(colm.requests("server")) == 1
    assert trace.answer == "five"
    assert trace.seconds < 30
    (stopped,) = [call for call in trace.calls if call.stage == "prefetch"]
    assert (stopped.sent.images, stopped.sent.pixels, stopped.usage.prompt_tokens) == (1, 1600, 0)
    assert "server: prefetch stopped, since guidance is not needed; its tokens are unknown" in trace.notes


def test_the_report_tells_what_was_read_in_vain() -> None:
    replies = {"near": [FIVE], "far": [FIVE]}
    traces = []
    for gate, delay in (("always", 0.0), ("disagreement", 0.0), ("disagreement", 60.0)):
        server = [{"text": "Ok", "delay": delay}, GUIDANCE]
        slow = {name: [{"text": FIVE, "delay": 0.1}] for name in replies}
        with scripted(slow, server, prefetch=True, gate=gate) as colm:
            traces.append(colm.ask(QUESTION))
    found = sum((cost(trace, CallTimes({})) for trace in traces), Cost())
    (read,) = [call.usage.prompt_tokens for call in traces[1].calls if call.stage == "prefetch"]
    assert read > 0
    assert found.prefetching == Prefetching(questions=3, wasted=2, wasted_tokens=read, stopped=1)
    assert found.server_calls == 1


@pytest.mark.parametrize("finish", ["length", "stop"])
def test_a_first_token_without_text_is_enough(finish: str) -> None:
    """Such as the beginning of a thought, which vLLM leaves out of the reply."""

    def server(seen: Seen) -> Reply:
        prefetched = seen.body["max_tokens"] == 1
        return Reply("", finish_reason=finish, prompt_tokens=70) if prefetched else Reply(GUIDANCE)

    with Endpoint(server, latency=0.1) as slow, Endpoint(Reply(FIVE), latency=0.5) as quick:
        team = {
            "clients": [{"name": "near", "backend": "openai", "model": "m", "base_url": quick.base_url}],
            "server": {"backend": "openai", "model": "m", "base_url": slow.base_url},
            "policy": {"prefetch": True, "reply_format": "lines"},
        }
        with CoLM(Team.from_dict(team)) as colm:
            trace = colm.ask(QUESTION)
    usage = {call.stage: call.usage.prompt_tokens for call in trace.calls if call.member == "server"}
    assert usage["prefetch"] == 70
    assert len(slow.seen) == 2
    assert not trace.degraded


def test_a_batch_counts_prefetches() -> None:
    stats = BatchStats()
    with scripted({"near": [{"text": FIVE, "delay": 0.05}]}, ["Ok", GUIDANCE], prefetch=True) as colm:
        (trace,) = colm.batch([Query(QUESTION)], stats=stats)
    assert stats.stages["prefetch"].made == 1
    assert stats.usage == sum((call.usage for call in trace.calls), Usage())


def test_in_process_guidance_reads_the_pictures_from_the_cache() -> None:
    pytest.importorskip("transformers", reason="transformers is not installed: pip install '.[local]'")
    with CoLM.from_team() as colm:
        question = {"question": "How many red objects are there?", "images": ["docs/examples/shapes.png"]}
        plain, ahead = (colm.ask(**question, prefetch=prefetch) for prefetch in (False, True))
    cached = {name: _guide(trace).usage.cached_tokens for name, trace in (("plain", plain), ("ahead", ahead))}
    assert cached["plain"] == 0
    assert cached["ahead"] > 0.5 * _prefetch_tokens(ahead)
    assert [one.text for one in ahead.guidance] == [one.text for one in plain.guidance]
    assert ahead.answer == plain.answer


def _guide(trace):
    return next(call for call in trace.calls if call.stage == "guide")


def _prefetch_tokens(trace):
    return next(call for call in trace.calls if call.stage == "prefetch").usage.prompt_tokens


def _text(message: Message) -> str:
    return message.text
