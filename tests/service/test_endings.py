"""Answers in a caller's form, and the side tasks of user interfaces."""

from __future__ import annotations

import json
from typing import Any

import pytest

from colm_vl.backends.scripted import Reply, ScriptedBackend
from colm_vl.service.schemas import check_schema, follows
from tests.service.hosted import client, service, team
from tests.service.test_chat import ask, body, chunks, joined, text
from tests.teams import FIVE

SCHEMA = {"type": "object", "properties": {"count": {"type": "integer"}}, "required": ["count"]}
FORM = {"type": "json_schema", "json_schema": {"name": "dots", "strict": True, "schema": SCHEMA}}
WRITES = {"when": "JSON schema below", "text": '```json\n{"count": 5}\n```'}


def counting(*extra: Any) -> ScriptedBackend:
    return ScriptedBackend([Reply(**WRITES), *extra, FIVE])


async def test_the_answer_is_written_under_the_callers_schema() -> None:
    dots = counting()
    async with client(service(backends={"dots": dots, "charts": counting()})) as http:
        reply = (await ask(http, body(response_format=FORM, colm={"trace": True}))).json()
        assert json.loads(reply["choices"][0]["message"]["content"]) == {"count": 5}
        assert reply["colm"]["trace"]["calls"][-1]["stage"] == "settle"
        last = dots.requests[-1]
        assert last.schema == SCHEMA
        assert "\n5\n[end" in last.messages[-1].text
        sent = await chunks(http, body(response_format=FORM))
        assert json.loads(joined(sent, "content")) == {"count": 5}
        assert '"count"' not in joined(sent, "reasoning_content")


async def test_an_answer_that_does_not_follow_the_schema_is_an_error() -> None:
    async with client() as http:
        answer = await ask(http, body(response_format=FORM))
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "response_format")
        assert (await chunks(http, body(response_format=FORM)))[-1]["error"]["code"] == "response_format"


DOUBLING: dict[str, Any] = {
    "$ref": "#/$defs/0",
    "$defs": {"40": {}} | {str(level): {"allOf": [{"$ref": f"#/$defs/{level + 1}"}] * 2} for level in range(40)},
}


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({}, "response_format has no schema"),
        ({"type": "dots"}, "the schema is not valid: 'dots' is not valid"),
        ({"$ref": "http://127.0.0.1:1/schema"}, "the schema refers to another document"),
        ({"$ref": "#/$defs/none"}, "the schema cannot be resolved"),
        ({"$ref": "#/properties", "properties": {"$schema": {}}}, "the schema cannot be resolved"),
        ({"enum": ["a" * 30_000]}, "the schema has 30,014 characters; at most 20,000"),
        (DOUBLING, "the schema takes too long to check"),
        ({"not": {"$schema": "http://json-schema.org/draft-07/schema#"}}, "the schema refers to another document"),
    ],
)
async def test_schemas_that_cannot_be_used_are_refused(schema: dict[str, Any], problem: str) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "dots", "schema": schema}}
    async with client() as http:
        answer = await ask(http, body(response_format=form))
        assert answer.status_code == 400
        assert answer.json()["error"]["message"].startswith(problem)


def test_what_takes_exponential_time_is_not_applied() -> None:
    nested: dict[str, Any] = {}
    for _ in range(40):
        nested = {"unevaluatedProperties": False, "anyOf": [nested]}
    pattern = {"$schema": "http://json-schema.org/draft-07/schema#", "pattern": "(a+)+$"}
    for schema in (nested, pattern, {"items": {"$ref": "#"}, **pattern}):
        check_schema(schema)
        assert follows(json.dumps(["a" * 40 + "b"]), schema)
    assert not follows('{"a": 1}', {"properties": {"a": DOUBLING["$defs"]["0"]}, "$defs": DOUBLING["$defs"]})


TITLE = """### Task:
Give this conversation a title.
### Output:
JSON format: { "title": "..." }
### Chat History:
<chat_history>
USER: How many dots are there?
ASSISTANT: 5
</chat_history>"""


async def test_a_title_takes_one_call_of_one_client() -> None:
    dots, server = ScriptedBackend(['{ "title": "Dots" }']), ScriptedBackend(["unused"])
    async with client(service(backends={"dots": dots, "server": server})) as http:
        reply = (await ask(http, body(text(TITLE)))).json()
        assert reply["choices"][0]["message"]["content"] == '{ "title": "Dots" }'
        sent = await chunks(http, body(text(TITLE)))
        assert joined(sent, "content") == '{ "title": "Dots" }'
    assert [len(dots.requests), len(server.requests)] == [2, 0]
    assert dots.requests[0].messages[0].text == TITLE


async def test_a_question_about_a_task_is_a_question() -> None:
    async with client(service(team())) as http:
        reply = (await ask(http, body(text("### Task:\nHow many dots are there?")))).json()
        assert "Guidance" in reply["choices"][0]["message"]["reasoning_content"]
