"""Members asked under a schema, for lines, or for whichever they take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from colm_vl import CoLM, ConfigError, Delta, Query, Team, Trace
from tests.endpoint import Endpoint, Reply, Seen
from tests.teams import FIVE, FOUR, GUIDANCE, scripted

AS_JSON = json.dumps({"caption": "five dots", "answer": "5", "confidence": 90})
GUIDANCE_JSON = json.dumps({"evidence": "five dots", "disagreement": "4 or 5", "check": "the corner"})


def team(endpoint: Endpoint, **policy: Any) -> Team:
    member = {"backend": "openai", "model": "m", "base_url": endpoint.base_url, "max_retries": 0}
    clients = [{"name": name, **member} for name in ("near", "far")]
    return Team.from_dict({"clients": clients, "server": member, "policy": policy})


def in_form(seen: Seen) -> str:
    """A model that follows the schema where there is one, and else writes lines."""
    if "response_format" not in seen.body:
        return GUIDANCE if "Write guidance" in seen.text else FIVE
    fields = seen.body["response_format"]["json_schema"]["schema"]["properties"]
    return GUIDANCE_JSON if "evidence" in fields else AS_JSON


def formed(endpoint: Endpoint) -> list[bool]:
    return ["response_format" in seen.body for seen in endpoint.seen]


def test_an_endpoint_that_takes_a_schema_is_asked_under_one() -> None:
    with Endpoint(in_form) as endpoint, CoLM(team(endpoint)) as colm:
        trace = colm.ask("How many dots?")
        assert formed(endpoint) == [True] * 5
        prompts = [seen.text for seen in endpoint.seen]
    assert trace.answer == "5"
    assert trace.drafts[0].text == AS_JSON
    assert (trace.drafts[0].caption, trace.guidance[0].check) == ("five dots", "the corner")
    assert all("JSON" in prompt for prompt in prompts)
    # Others see the fields, a client its own reply as it wrote it.
    assert "Caption: five dots\nAnswer: 5" in prompts[2]
    assert "{" not in prompts[2].rpartition("Question: ")[2]  # before it stands the example
    assert "Evidence: five dots\nDisagreement: 4 or 5" in prompts[3]
    assert AS_JSON in prompts[3]


def test_reasoning_has_a_field_before_the_answer() -> None:
    said = {"caption": "dots", "reasoning": "3 + 2 dots. So it is 5.", "answer": "5", "confidence": 90}
    with Endpoint(lambda seen: json.dumps(said)) as endpoint, CoLM(team(endpoint)) as colm:
        draft = colm.ask("How many dots?", strategy="vote", reason=True).drafts[0]
        plain = colm.ask("How many dots?", strategy="vote")
        fields = [list(seen.body["response_format"]["json_schema"]["schema"]["properties"]) for seen in endpoint.seen]
    assert fields[0] == ["caption", "reasoning", "answer", "confidence"]
    assert fields[-1] == ["caption", "answer", "confidence"]
    assert "field reasoning" in endpoint.seen[0].text
    assert '"reasoning": "A saw cuts' in endpoint.seen[0].text
    assert (draft.caption, draft.answer, plain.answer) == ("dots", "5", "5")


def test_an_endpoint_that_refuses_a_schema_is_asked_for_lines_afterwards() -> None:
    with Endpoint(in_form, refuses={"response_format"}) as endpoint, CoLM(team(endpoint)) as colm:
        for _ in range(2):
            trace = colm.ask("How many dots?")
            assert (trace.answer, trace.guidance[0].check) == ("5", "count the dots in the corner")
            assert not trace.degraded
        # The two drafts of the first question are sent at the same time.
        assert sum(formed(endpoint)) <= 2
        assert all("JSON" not in seen.text for seen in endpoint.seen if "response_format" not in seen.body)
        refinement = endpoint.seen[-1].text
    assert refinement.count("Write three lines") == 3  # the example, the question, the refinement


def test_lines_are_read_from_a_member_that_ignores_the_schema() -> None:
    with Endpoint([FIVE, FOUR]) as endpoint, CoLM(team(endpoint, strategy="vote")) as colm:
        trace = colm.ask("How many dots?")
    assert sorted(draft.answer for draft in trace.drafts) == ["4", "5"]


def test_json_requires_a_schema_and_lines_never_sends_one() -> None:
    with Endpoint(in_form, refuses={"response_format"}) as endpoint:
        with CoLM(team(endpoint, reply_format="json", strategy="vote")) as colm:
            trace = list(colm.stream("How many dots?"))[-1]
            assert isinstance(trace, Trace)
        assert [failure.kind for failure in trace.failures] == ["unsupported", "unsupported"]
        assert "reply_format" in trace.failures[0].hint
    with Endpoint(in_form) as endpoint, CoLM(team(endpoint, reply_format="lines")) as colm:
        assert colm.ask("How many dots?").answer == "5"
        assert not any(formed(endpoint))


def test_a_member_may_have_its_own() -> None:
    with Endpoint(in_form) as endpoint:
        member = {"backend": "openai", "model": "m", "base_url": endpoint.base_url}
        clients = [{"name": "near", **member, "reply_format": "lines"}, {"name": "far", **member}]
        with CoLM(Team.from_dict({"clients": clients, "policy": {"strategy": "vote"}})) as colm:
            assert colm.ask("How many dots?").answer == "5"
        assert sorted(formed(endpoint)) == [False, True]
    with pytest.raises(ConfigError, match="reply_format"):
        Team.from_dict({"clients": [{"name": "near", **member, "reply_format": "xml"}]})


def test_with_choices_the_answer_is_one_of_their_letters() -> None:
    with Endpoint('{"caption": "dots", "answer": "B", "confidence": 90}') as endpoint:
        with CoLM(team(endpoint, strategy="vote")) as colm:
            trace = colm.ask("How many dots?", choices=["4", "5"])
        schema = endpoint.seen[0].body["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["answer"]["enum"] == ["A", "B"]
    assert list(schema["properties"]) == schema["required"] == ["caption", "answer", "confidence"]
    assert (trace.choice, trace.answer) == ("B", "5")


def test_a_stream_shows_fields_and_no_braces() -> None:
    with Endpoint(in_form) as endpoint, CoLM(team(endpoint)) as colm:
        events = list(colm.stream("How many dots?"))
    shown: dict[tuple[str, str], str] = {}
    for event in events:
        if isinstance(event, Delta):
            shown[event.stage, event.member] = shown.get((event.stage, event.member), "") + event.text
    assert shown["draft", "near"] == "Caption: five dots\nAnswer: 5\nConfidence: 90"
    assert shown["guide", "server"] == "Evidence: five dots\nDisagreement: 4 or 5\nCheck: the corner"
    assert sum(isinstance(event, Delta) and event.stage == "draft" for event in events) > 4


def test_a_truncated_reply_is_read_with_a_note() -> None:
    cut = Reply('{"caption": "five dots", "answer": "5", "conf', finish_reason="length")
    with Endpoint(cut) as endpoint, CoLM(team(endpoint, strategy="vote")) as colm:
        trace = colm.ask("How many dots?")
    assert trace.answer == "5"
    assert "near: its reply was cut off at 512 tokens, and read as far as it goes" in trace.notes


def test_a_batch_that_fell_back_to_lines_is_resumed_without_a_call(tmp_path: Path) -> None:
    questions = [Query("How many dots?", id="a"), Query("How many lines?", id="b")]
    with Endpoint(in_form, refuses={"response_format"}) as endpoint:
        settings = team(endpoint)
        with CoLM(settings) as colm:
            first = list(colm.batch(questions, tmp_path / "out"))
        made = len(endpoint.seen)
        (tmp_path / "out" / "traces.jsonl").unlink()
        (tmp_path / "out" / "answers.jsonl").unlink()
        with CoLM(settings) as colm:
            again = list(colm.batch(questions, tmp_path / "out"))
        assert len(endpoint.seen) == made
    assert [dict(trace.final) for trace in again] == [dict(trace.final) for trace in first]


def test_scripted_members_are_asked_under_a_schema_where_json_is_set() -> None:
    with scripted({"near": [AS_JSON], "far": [FIVE]}, [GUIDANCE_JSON], reply_format="json") as colm:
        trace = colm.ask("How many dots?")
        assert trace.answer == "5"
        assert trace.guidance[0].text.startswith("Evidence: five dots\n")
        (draft, refinement), (guidance,) = colm.requests("near"), colm.requests("server")
    assert draft.schema == refinement.schema
    assert draft.schema is not None
    assert guidance.schema is not None
    assert "evidence" in guidance.schema["properties"]
    assert draft.plain is None
    with scripted({"near": [FIVE]}, strategy="vote") as colm:
        colm.ask("How many dots?")
        assert colm.requests("near")[0].schema is None
