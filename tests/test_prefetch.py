"""The server reads pictures and question while the clients draft."""

from __future__ import annotations

import pytest
from PIL import Image as Picture

from colm_vl import CoLM, Image, Query
from colm_vl.backends.base import Message
from colm_vl.prompts import guidance_messages, guidance_prefix
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


def test_a_prefetch_ends_if_the_gate_skips_the_server() -> None:
    with scripted(
        {"near": [FIVE], "far": [FIVE]}, [{"text": "Ok", "delay": 60}], prefetch=True, gate="disagreement"
    ) as colm:
        trace = colm.ask(QUESTION)
        assert len(colm.requests("server")) == 1
    assert trace.answer == "5"
    assert trace.seconds < 30


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
