"""`/v1/responses`."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.service.hosted import client, service, team

QUESTION = "How many dots are there?"


def body(*content: Any, **more: Any) -> dict[str, Any]:
    message = {"role": "user", "content": [{"type": "input_text", "text": QUESTION}, *content]}
    return {"model": "colm", "input": [message], **more}


def picture(png: bytes) -> dict[str, Any]:
    uri = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return {"type": "input_image", "image_url": uri, "detail": "auto"}


async def test_a_response_has_reasoning_and_a_message(dots_png: bytes) -> None:
    async with client() as http:
        asked = body(picture(dots_png), instructions="Be brief.", colm={"trace": True})
        reply = (await http.post("/v1/responses", json=asked)).json()
        reasoning, message = reply["output"]
        assert "Guidance" in reasoning["content"][0]["text"]
        assert message["content"][0]["text"] == "5"
        assert (reply["status"], reply["instructions"]) == ("completed", "Be brief.")
        assert reply["usage"]["total_tokens"] > reply["usage"]["output_tokens_details"]["reasoning_tokens"] > 0
        assert reply["colm"]["trace"]["history"][0]["text"] == "Be brief."
        assert len(reply["colm"]["trace"]["images"]) == 1


async def test_a_conversation_can_be_sent_back_as_it_came() -> None:
    async with client() as http:
        first = (await http.post("/v1/responses", json={"model": "colm", "input": QUESTION})).json()
        turns = [{"role": "user", "content": QUESTION}, *first["output"], {"role": "user", "content": "Sure?"}]
        asked = {"model": "colm", "input": turns, "colm": {"trace": True}}
        second = (await http.post("/v1/responses", json=asked)).json()
        history = [(turn["role"], turn["text"]) for turn in second["colm"]["trace"]["history"]]
        assert history == [("user", QUESTION), ("assistant", "5")]


async def test_a_stream_of_events_adds_up_to_the_response(dots_png: bytes) -> None:
    async with client() as http:
        text = (await http.post("/v1/responses", json=body(picture(dots_png), stream=True))).text
        events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        kinds = list(dict.fromkeys(event["type"] for event in events))
        assert kinds[:4] == [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.reasoning_text.delta",
        ]
        reply = events[-1]["response"]
        assert (events[-1]["type"], reply["status"]) == ("response.completed", "completed")
        for kind, index in (("response.reasoning_text.delta", 0), ("response.output_text.delta", 1)):
            written = "".join(event["delta"] for event in events if event["type"] == kind)
            assert written == reply["output"][index]["content"][0]["text"]


async def test_a_stream_without_an_answer_fails() -> None:
    broken = team(server=[{"error": "unreachable", "text": "http://10.1.2.3:8000 refused the connection"}])
    async with client(service(broken)) as http:
        asked = {"model": "server", "input": QUESTION}
        text = (await http.post("/v1/responses", json={**asked, "stream": True})).text
        last = json.loads([line for line in text.splitlines() if line.startswith("data: ")][-1][6:])
        assert (last["type"], last["response"]["error"]["code"]) == ("response.failed", "no_answer")
        assert "10.1.2.3" not in text
        assert (await http.post("/v1/responses", json=asked)).status_code == 502


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools are not supported"),
        ({"previous_response_id": "resp_1"}, "responses are not stored"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format has no schema"),
        ({"input": [{"type": "function_call", "name": "f"}]}, "input.0: Input tag 'function_call'"),
    ],
)
async def test_what_cannot_be_done_is_refused_plainly(more: dict[str, Any], problem: str) -> None:
    async with client() as http:
        answer = await http.post("/v1/responses", json=body(**more))
        assert answer.status_code == 400
        assert answer.json()["error"]["message"].startswith(problem)
