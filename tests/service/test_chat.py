"""`/v1/models` and `/v1/chat/completions`."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from colm_vl import Image
from colm_vl.backends.scripted import Reply, ScriptedBackend
from colm_vl.service import keys
from colm_vl.service.keys import QuotaTable
from tests.service.hosted import client, service, team
from tests.teams import FIVE, GUIDANCE

QUESTION = "How many dots are there?"


def body(*content: Any, model: str = "colm", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": list(content) or QUESTION}], **more}


def text(said: str = QUESTION) -> dict[str, Any]:
    return {"type": "text", "text": said}


def picture(png: bytes) -> dict[str, Any]:
    uri = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return {"type": "image_url", "image_url": {"url": uri, "detail": "low"}}


async def ask(http: httpx.AsyncClient, request: Mapping[str, Any]) -> httpx.Response:
    return await http.post("/v1/chat/completions", json=request)


async def chunks(http: httpx.AsyncClient, request: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
    lines = (await ask(http, {**request, "stream": True})).text.split("\n\n")
    assert lines[0] == ": keep-alive"
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert data[-1] == "[DONE]"
    return [json.loads(line) for line in data[:-1]]


def joined(sent: Sequence[dict[str, Any]], key: str) -> str:
    return "".join(part["choices"][0]["delta"].get(key) or "" for part in sent if part.get("choices"))


async def test_there_is_a_model_for_each_strategy_that_the_team_can_carry_out() -> None:
    async with client() as http:
        listed = (await http.get("/v1/models")).json()
        ids = [model["id"] for model in listed["data"]]
        assert ids[0] == "colm"
        assert {"vote", "server", "solo:dots", "solo:charts"} <= set(ids)
        assert "solo" not in ids
        one = (await http.get("/v1/models/solo:dots")).json()
        assert (one["id"], one["object"]) == ("solo:dots", "model")
        assert (await http.get("/v1/models/gone")).status_code == 404
    async with client(service(team(server=None, strategy="vote"))) as http:
        assert '"colm"' not in (await http.get("/v1/models")).text
    async with client(service(settings={"strategies": ["vote"]})) as http:
        assert len((await http.get("/v1/models")).json()["data"]) == 1
        assert (await ask(http, body(model="colm"))).status_code == 404


@pytest.mark.parametrize(
    ("policy", "first"),
    [
        ({"strategy": "solo"}, "solo:dots"),
        ({"strategy": "solo", "asker": "charts"}, "solo:charts"),
        ({"strategy": "solo:charts"}, "solo:charts"),
        ({"strategy": "self_consistency:charts"}, "self_consistency:charts"),
        ({"strategy": "vote"}, "vote"),
    ],
)
async def test_the_teams_own_strategy_is_the_first_model(policy: dict[str, Any], first: str) -> None:
    async with client(service(team(**policy))) as http:
        ids = [model["id"] for model in (await http.get("/v1/models")).json()["data"]]
        assert ids[0] == first
        assert len(ids) == len(set(ids))


async def test_a_team_answers_like_one_model(dots_png: bytes) -> None:
    async with client() as http:
        reply = (await ask(http, body(text(), picture(dots_png), temperature=0, max_tokens=16))).json()
        message = reply["choices"][0]["message"]
        assert message["content"] == "5"
        for said in ("Drafts", "dots: Caption: five dots", "Guidance", "server: Evidence", "Refined answers"):
            assert said in message["reasoning_content"]
        usage = reply["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0
        assert 0 < usage["completion_tokens_details"]["reasoning_tokens"] < usage["completion_tokens"]
        assert usage["prompt_tokens_details"] == {"cached_tokens": 0}
        assert "colm" not in reply


async def test_a_stream_shows_the_stages_and_then_the_answer(dots_png: bytes) -> None:
    async with client() as http:
        sent = await chunks(http, body(text(), picture(dots_png), stream_options={"include_usage": True}))
        assert joined(sent, "content") == "5"
        whole = (await ask(http, body(text(), picture(dots_png)))).json()
        assert joined(sent, "reasoning_content").strip() == whole["choices"][0]["message"]["reasoning_content"]
        assert sent[0]["choices"][0]["delta"]["role"] == "assistant"
        assert sent[-2]["choices"][0]["finish_reason"] == "stop"
        assert (sent[-1]["choices"], sent[-1]["usage"]) == ([], whole["usage"])
        assert len({part["id"] for part in sent}) == 1
        assert not any("usage" in part for part in await chunks(http, body(text())))


class Written(ScriptedBackend):
    """Writes its first word, and the others once it may."""

    def __init__(self, *replies: str) -> None:
        super().__init__(replies)
        self.may_go_on = asyncio.Event()
        self.began = asyncio.Event()
        self.ended = asyncio.Event()

    async def stream(self, request: Any) -> Any:
        try:
            generation = await self.generate(request)
            first, _, rest = generation.text.partition(" ")
            yield first
            self.began.set()
            await self.may_go_on.wait()
            yield f" {rest}"
            yield generation
        finally:
            self.ended.set()


async def test_replies_are_sent_while_they_are_written() -> None:
    slow = Written(FIVE)
    async with client(service(backends={"dots": slow})) as http:
        # httpx's transport for applications collects whole responses, so the application is called directly.
        sent: list[bytes] = []
        first = asyncio.Event()

        async def send(message: Any) -> None:
            sent.append(message.get("body", b""))
            if b"Caption:" in sent[-1]:
                first.set()

        call = asyncio.create_task(called(http, body(text(), stream=True), send))
        async with asyncio.timeout(10):
            await first.wait()
        assert b"[DONE]" not in b"".join(sent)
        slow.may_go_on.set()
        await call
        assert b"[DONE]" in b"".join(sent)


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_client_that_goes_away_cancels_its_question(streamed: bool) -> None:
    slow = Written(FIVE)
    if not streamed:
        slow = Hanging()
    made = service(backends={"server": slow})
    async with client(made) as http:
        gone = asyncio.Event()

        async def send(message: Any) -> None:
            pass

        call = asyncio.create_task(called(http, body(text(), stream=streamed), send, gone))
        async with asyncio.timeout(10):
            await slow.began.wait()
            assert made.places.queue.serving == 1
            gone.set()
            await call
            await slow.ended.wait()
        assert made.places.queue.serving == 0


class Hanging(Written):
    async def generate(self, request: Any) -> Any:
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()


async def called(http: httpx.AsyncClient, request: Any, send: Any, gone: asyncio.Event | None = None) -> None:
    """Call the application as a server does; the client disconnects once it is `gone`."""
    transport = http._transport
    assert isinstance(transport, httpx.ASGITransport)
    content = [json.dumps(request).encode()]

    async def receive() -> dict[str, Any]:
        if content:
            return {"type": "http.request", "body": content.pop(), "more_body": False}
        await (gone or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    head = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "POST"}
    where = {"path": "/v1/chat/completions", "raw_path": b"", "query_string": b"", "root_path": "", "scheme": "http"}
    headers = {"headers": [(b"content-type", b"application/json")], "client": ("test", 1), "server": ("test", 80)}
    await transport.app({**head, **where, **headers}, receive, send)


async def test_the_trace_comes_on_request_and_tells_no_addresses() -> None:
    broken = team(server=[{"error": "unreachable", "text": "http://10.1.2.3:8000 refused the connection"}])
    async with client(service(broken)) as http:
        reply = (await ask(http, body(colm={"trace": True}))).json()
        trace = reply["colm"]["trace"]
        assert (trace["answer"], trace["fallback"]) == (reply["choices"][0]["message"]["content"], "concat")
        assert "10.1.2.3" not in json.dumps(reply)
        sent = await chunks(http, body(colm={"trace": True}))
        assert sent[-1]["colm"]["trace"]["strategy"] == "colm"
        assert "10.1.2.3" not in json.dumps(sent)
        failed = await ask(http, body(model="server"))
        assert (failed.status_code, failed.headers["x-should-retry"]) == (502, "false")
        assert failed.json()["error"]["message"] == "no answer: server: unreachable"
        assert (await chunks(http, body(model="server")))[-1]["error"]["code"] == "no_answer"


async def test_choices_are_answered_by_one_of_them() -> None:
    async with client(service(team(server=["Answer: (B)"]))) as http:
        reply = (await ask(http, body(model="server", colm={"choices": ["four", "five"]}))).json()
        assert reply["choices"][0]["message"]["content"] == "five"


async def test_earlier_turns_and_their_pictures_are_context(dots_png: bytes) -> None:
    server = ScriptedBackend([GUIDANCE])
    async with client(service(backends={"server": server})) as http:
        messages = [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [text("What is this?"), picture(dots_png)]},
            {"role": "assistant", "content": [{"type": "text", "text": "A card."}]},
            {"role": "user", "content": [text("More than on this one?"), picture(dots_png), text("And here?")]},
        ]
        reply = (await ask(http, {"model": "colm", "messages": messages, "colm": {"trace": True}})).json()
        turns = [(turn["role"], turn["text"], turn["images"]) for turn in reply["colm"]["trace"]["history"]]
        assert turns == [("system", "Be brief.", 0), ("user", "What is this?", 1), ("assistant", "A card.", 0)]
        (request,) = server.requests
        assert len(request.images) == 2
        prompt = request.messages[-1].text
        assert "user (Picture 1): What is this?" in prompt
        assert "More than on this one?\n[Picture 2]\nAnd here?" in prompt


async def test_policies_are_set_within_what_the_operator_allows() -> None:
    captions = team(share="thumbnails")
    async with client(service(captions, settings={"policies": ["rounds", "share"]})) as http:
        reply = (await ask(http, body(colm={"rounds": 2, "share": "captions", "trace": True}))).json()
        assert len(reply["colm"]["trace"]["guidance"]) == 2
        for options, problem in (
            ({"rounds": 9}, "colm.rounds is 9; at most 3 are allowed"),
            ({"share": "images"}, "colm.share is images, which is more than the team shares"),
            ({"asker": "dots"}, "colm.asker cannot be set for a request"),
            ({"rounds": 0}, "policy: rounds: Input should be greater than or equal to 1 (given: 0)"),
            (
                {"gate": {"calibrated": "/etc/passwd"}},
                "colm.gate.calibrated: Input should be a valid number, unable to parse string as a number",
            ),
            ({"guide": 1}, "colm.guide: Extra inputs are not permitted"),
        ):
            answer = await ask(http, body(colm=options))
            assert "passwd" not in answer.text
            assert (answer.status_code, answer.json()["error"]["message"]) == (400, problem)


async def test_sampling_applies_to_the_replies_from_which_answers_are_read() -> None:
    dots, server = ScriptedBackend([FIVE]), ScriptedBackend([GUIDANCE])
    async with client(service(backends={"dots": dots, "server": server})) as http:
        await ask(http, body(max_completion_tokens=16, max_tokens=900, temperature=0.5, seed=3))
        await ask(http, body(max_tokens=100_000))
    drafted, refined, longest, _ = (request.sampling for request in dots.requests)
    assert drafted == refined
    assert (drafted.max_tokens, drafted.temperature, drafted.seed) == (256, 0.5, 3)
    assert longest.max_tokens == 4096
    assert server.requests[0].sampling.temperature == 0


async def test_only_two_pictures_are_decoded_at_the_same_time(dots_png: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    decode, under_way, most = Image.open, 0, 0
    counting = threading.Lock()

    def slowly(*given: Any, **more: Any) -> Image:
        nonlocal under_way, most
        with counting:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.02)
        with counting:
            under_way -= 1
        return decode(*given, **more)

    monkeypatch.setattr(Image, "open", slowly)
    async with client() as http:
        answers = await asyncio.gather(*(ask(http, body(picture(dots_png), text())) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert most == 2


PNG = "data:image/png;base64,aGVsbG8="


@pytest.mark.parametrize(
    ("request_body", "problem"),
    [
        (body(n=2), "n is 2: a team settles on one answer"),
        (body(tools=[{"type": "function"}]), "tools are not supported"),
        (body(modalities=["text", "audio"]), "audio is not supported; the answer is text"),
        (body({"type": "input_audio", "input_audio": {}}), "messages.0.content.0: Input tag 'input_audio'"),
        (body({"type": "image_url", "image_url": PNG}, text()), "the picture in a data URI is text"),
        (body({"type": "image_url", "image_url": "/etc/passwd"}, text()), "an image_url is no data URI"),
        (body({"type": "image_url", "image_url": "https://a.org/b.png"}, text()), "remote pictures are not fetched"),
        (body(text("")), "the question is empty"),
        ({"model": "colm", "messages": [{"role": "assistant", "content": "hi"}]}, "the last message is assistant"),
        ({"model": "colm", "messages": [{"role": "tool", "content": "hi"}]}, "messages.0.role"),
        ({"model": "colm", "messages": []}, "messages: List should have at least 1 item"),
    ],
)
async def test_what_cannot_be_done_is_refused_plainly(request_body: Any, problem: str) -> None:
    async with client() as http:
        answer = await ask(http, request_body)
        error = answer.json()["error"]
        assert (answer.status_code, error["type"]) == (400, "input" if "data URI is text" not in problem else "image")
        assert error["message"].startswith(problem)
        assert "/etc" not in answer.text


@pytest.mark.parametrize(
    ("limits", "request_body"),
    [
        ({"images": 0}, body(text(), {"type": "image_url", "image_url": PNG})),
        ({"question": 5}, body(text("123456"))),
        ({"turns": 1}, {"model": "colm", "messages": [{"role": "user", "content": "a"}] * 2}),
        ({"conversation": 5}, {"model": "colm", "messages": [{"role": "user", "content": "abc"}] * 2}),
        ({"choices": 2}, body(colm={"choices": ["a", "b", "c"]})),
        ({"choice": 2}, body(colm={"choices": ["a", "abc"]})),
    ],
)
async def test_requests_beyond_the_limits_are_refused(limits: Mapping[str, int], request_body: Any) -> None:
    async with client(service(settings={"limits": limits})) as http:
        answer = await ask(http, request_body)
        assert answer.status_code == 400
        assert "at most" in answer.json()["error"]["message"]


@pytest.mark.parametrize("limits", [{"pixels": 1000}, {"all_pixels": 5000}])
async def test_pixels_are_bounded_for_each_picture_and_for_all(limits: Mapping[str, int], dots_png: bytes) -> None:
    async with client(service(settings={"limits": limits})) as http:
        answer = await ask(http, body(text(), picture(dots_png), picture(dots_png)))
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "image")


async def test_quotas_and_a_full_queue_are_told_with_the_time_to_wait(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    key = keys.add(file, "ann", 1.0, QuotaTable(requests_per_minute=1))
    async with client(service(keys=file), Authorization=f"Bearer {key}") as http:
        assert (await ask(http, body(model="vote"))).status_code == 200
        answer = await ask(http, body(model="vote"))
        assert answer.status_code == 429
        assert 0 < int(answer.headers["retry-after"]) <= 60
        assert answer.json()["error"]["type"] == "rate_limited"


async def test_questions_under_way_at_the_end_of_the_grace_time_are_told_so() -> None:
    slow = Written(FIVE)
    made = service(backends={"dots": slow})
    async with client(made) as http:
        call = asyncio.create_task(chunks(http, body()))
        async with asyncio.timeout(10):
            await slow.began.wait()
            made.cancel_all()
            sent = await call
    assert sent[-1]["error"]["message"] == "the service was stopped"


async def test_half_of_a_surrogate_pair_in_a_reply_is_no_error() -> None:
    """Endpoints that escape JSON can send the halves of an emoji in two pieces."""
    halves = ScriptedBackend(["Answer: five \ud83d"])
    async with client(service(backends={"dots": halves})) as http:
        reply = (await ask(http, body(model="solo:dots", colm={"trace": True}))).json()
        assert reply["choices"][0]["message"]["content"] == "five \ud83d"
        assert joined(await chunks(http, body(model="solo:dots")), "content") == "five \ud83d"
        response = await http.post("/v1/responses", json={"model": "solo:dots", "input": QUESTION})
        assert response.json()["output"][-1]["content"][0]["text"] == "five \ud83d"


async def test_a_bug_in_a_member_is_not_shown() -> None:
    def bug(request: Any) -> Reply:
        raise RuntimeError("secret")

    async with client(service(backends={"server": ScriptedBackend(bug)})) as http:
        assert "secret" not in (await ask(http, body(model="server"))).text


@pytest.mark.parametrize("gate", ["calibrated=/etc/passwd", "calibrated = gate.json", {"calibrated": 1.0}])
async def test_a_request_cannot_name_a_file_of_the_service(gate: Any) -> None:
    async with client() as http:
        answer = await ask(http, body(text(), colm={"gate": gate}))
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "colm.gate names a file, which only the operator can do"


async def test_tools_are_ignored_where_the_operator_lets_them_be() -> None:
    offered = {"tools": [{"type": "function", "function": {"name": "search"}}]}
    async with client(service(settings={"ignore_tools": True})) as http:
        assert (await ask(http, body(text(), **offered, tool_choice="auto"))).json()["choices"][0]["message"]["content"]
        refused = await ask(http, body(text(), **offered, tool_choice="required"))
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "tools")
