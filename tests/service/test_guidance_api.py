"""The guidance service as any HTTP client sees it."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from colm_vl.backends.scripted import Reply, ScriptedBackend
from colm_vl.guidance_protocol import TextDelta
from colm_vl.service import keys
from colm_vl.service.guidance import Consultation
from colm_vl.service.keys import QuotaTable
from tests.service.hosted import client, service, team
from tests.teams import FIVE, GUIDANCE

DRAFTS = [{"heading": "eyes", "text": "Answer: 5"}]
ASK = {"question": "How many dots are there?", "drafts": DRAFTS, "answers": ["5"]}


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with client(service(team(server=[GUIDANCE]), settings={"limits": {"question": 100, "images": 1}})) as made:
        yield made


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]


async def test_guidance_whole_and_streamed(http: httpx.AsyncClient) -> None:
    whole = (await http.post("/v1/guidance", json=ASK)).json()
    assert whole["text"] == whole["own"] == GUIDANCE
    assert (whole["evidence"], whole["check"]) == ("there are five dots", "count the dots in the corner")
    assert whole["usage"]["completion_tokens"] > 0
    streamed = await http.post("/v1/guidance", json={**ASK, "stream": True})
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert streamed.text.startswith(": ")
    *deltas, reply = events(streamed.text)
    assert "".join(delta["text"] for delta in deltas) == GUIDANCE
    assert (reply["type"], reply["reply"]) == ("reply", whole)


async def test_a_verdict_and_a_selection() -> None:
    async with client(service(team(server=[FIVE]))) as http:
        verdict = (await http.post("/v1/verdict", json={"question": "How many?", "choices": ["4", "five"]})).json()
        assert (verdict["answer"], verdict["choice"], verdict["caption"]) == ("five", "B", "five dots")
        assert verdict["confidence"] == {"value": 0.9, "source": "stated"}
        verdict = (await http.post("/v1/verdict", json={"question": "How many?", "drafts": DRAFTS})).json()
        assert (verdict["answer"], verdict["choice"]) == ("5", None)
    async with client(service(team(server=["charts\nnobody"]))) as http:
        clients = [{"name": "charts", "specialty": "bars"}, {"name": "photos"}]
        asked = {"question": "Which bar is taller?", "clients": clients, "count": 1}
        selection = (await http.post("/v1/selection", json=asked)).json()
        assert (selection["clients"], selection["dropped"]) == (["charts"], ["nobody"])


async def test_pictures_are_uploaded_and_named_by_their_hash(http: httpx.AsyncClient, dots_png: bytes) -> None:
    digest = hashlib.sha256(dots_png).hexdigest()
    path = f"/v1/pictures/{digest}"
    asked = {**ASK, "pictures": [digest]}
    assert (await http.head(path)).status_code == 404
    missing = await http.post("/v1/guidance", json=asked)
    assert (missing.status_code, missing.json()["error"]["code"]) == (409, "missing_picture")
    assert (await http.put(path, content=dots_png)).status_code == 204
    assert (await http.head(path)).status_code == 204
    assert (await http.post("/v1/guidance", json=asked)).status_code == 200
    wrong = await http.put(f"/v1/pictures/{'0' * 64}", content=dots_png)
    assert (wrong.status_code, wrong.json()["error"]["type"]) == (400, "input")
    text = await http.put(f"/v1/pictures/{hashlib.sha256(b'text').hexdigest()}", content=b"text")
    assert text.status_code == 400
    assert (await http.put("/v1/pictures/short", content=dots_png)).status_code == 400


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"question": ""}, "question"),
        ({"question": "x" * 101}, "question"),
        ({"choices": ["one"]}, None),
        ({"pictures": ["0" * 64] * 2}, "pictures"),
        ({"pictures": ["../../etc/passwd"]}, "pictures.0"),
        ({"drafts": []}, "drafts"),
        ({"drafts": [{"heading": "eyes", "text": "x" * 200_000}, *DRAFTS]}, "drafts"),
        ({"history": [{"role": "user", "text": "Hello", "images": 10**12}]}, "history"),
        ({"history": [{"role": "user", "text": "Hello", "images": -1}]}, "history"),
        ({"rounds": 2}, "rounds"),
        ({"stream": "perhaps"}, "stream"),
    ],
)
async def test_what_cannot_be_asked_is_a_400_that_names_the_field(
    http: httpx.AsyncClient, change: dict[str, Any], param: str | None
) -> None:
    answer = await http.post("/v1/guidance", json={**ASK, **change})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


async def test_a_failure_after_the_stream_has_begun_is_its_last_event() -> None:
    failing = team(server=[{"error": "context_too_long", "text": "secret-model takes 10 tokens"}])
    async with client(service(failing)) as http:
        whole = await http.post("/v1/guidance", json=ASK)
        assert (whole.status_code, whole.json()["error"]["type"]) == (400, "context_too_long")
        (last,) = events((await http.post("/v1/guidance", json={**ASK, "stream": True})).text)
    assert (last["type"], last["error"]["type"]) == ("error", "context_too_long")
    assert "secret-model" not in json.dumps(last) + whole.text


async def test_a_bug_after_the_stream_has_begun_is_its_last_event(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def break_down(consultation: Consultation) -> AsyncIterator[TextDelta]:
        yield TextDelta(text="Evidence: ")
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(Consultation, "events", break_down)
    first, last = events((await http.post("/v1/guidance", json={**ASK, "stream": True})).text)
    assert (first["type"], last["type"], last["error"]["message"]) == ("delta", "error", "internal error")


async def test_a_team_without_a_server_guides_nobody() -> None:
    async with client(service(team(server=None, strategy="vote"))) as http:
        answer = await http.post("/v1/guidance", json=ASK)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_server")


async def test_pictures_of_one_key_do_not_exist_for_another(tmp_path: Path, dots_png: bytes) -> None:
    file = tmp_path / "keys.toml"
    ann, bob = ({"Authorization": f"Bearer {keys.add(file, name, 1.0, QuotaTable())}"} for name in ("ann", "bob"))
    path = f"/v1/pictures/{hashlib.sha256(dots_png).hexdigest()}"
    async with client(service(keys=file)) as http:
        assert (await http.put(path, content=dots_png)).status_code == 401
        assert (await http.put(path, content=dots_png, headers=ann)).status_code == 204
        assert (await http.head(path, headers=ann)).status_code == 204
        assert (await http.head(path, headers=bob)).status_code == 404
        asked = {**ASK, "pictures": [path.rpartition("/")[2]]}
        assert (await http.post("/v1/guidance", json=asked, headers=bob)).status_code == 409


async def test_a_used_up_quota_is_a_429_with_the_time_to_wait(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    ann = {"Authorization": f"Bearer {keys.add(file, 'ann', 1.0, QuotaTable(requests_per_minute=1))}"}
    async with client(service(keys=file)) as http:
        assert (await http.post("/v1/guidance", json=ASK, headers=ann)).status_code == 200
        answer = await http.post("/v1/guidance", json={**ASK, "stream": True}, headers=ann)
    assert (answer.status_code, answer.json()["error"]["type"]) == (429, "rate_limited")
    assert 50 < int(answer.headers["retry-after"]) <= 60


async def test_equal_requests_at_the_same_time_share_a_call() -> None:
    server = ScriptedBackend([Reply(text=GUIDANCE, delay=0.1)])
    made = service(backends={"server": server})
    async with client(made) as http:
        bodies = [ASK, ASK, {**ASK, "stream": True}, {**ASK, "answers": []}]
        answers = await _all(http, bodies)
    assert [answer.status_code for answer in answers] == [200] * 4
    assert len(server.requests) == 2


async def _all(http: httpx.AsyncClient, bodies: list[dict[str, Any]]) -> list[httpx.Response]:
    return await asyncio.gather(*(http.post("/v1/guidance", json=body) for body in bodies))


async def test_the_description_has_the_protocol(http: httpx.AsyncClient) -> None:
    described = (await http.get("/openapi.json")).json()
    paths = described["paths"]
    assert set(paths["/v1/pictures/{sha256}"]) == {"head", "put"}
    for name in ("selection", "guidance", "verdict"):
        operation = paths[f"/v1/{name}"]["post"]
        assert set(operation["responses"]["200"]["content"]) == {"application/json", "text/event-stream"}
        assert {"400", "401", "409", "429", "503"} <= set(operation["responses"])
        events = operation["responses"]["200"]["content"]["text/event-stream"]["x-event-data"]["oneOf"]
        told = {event["properties"]["type"]["const"]: set(event["properties"]) - {"type"} for event in events}
        assert told == {
            "queued": {"ahead"},
            "started": set(),
            "delta": {"text"},
            "reply": {"reply"},
            "error": {"error"},
        }
        assert "$ref" not in json.dumps(events)
    assert "evidence" in described["components"]["schemas"]["GuidanceReply"]["properties"]
