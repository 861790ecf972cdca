"""The tool `ask` by the client of the official SDK: over stdio as a desktop program starts it, and over HTTP."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import httpx
import pytest

pytest.importorskip("mcp", reason="mcp is not installed: pip install 'colm-vl[mcp]'")
from mcp import ClientSession, StdioServerParameters, stdio_client, types
from mcp.client.streamable_http import streamable_http_client

from colm_vl.service import keys
from colm_vl.service.accounting import Bill
from colm_vl.service.app import create_app
from colm_vl.service.keys import QuotaTable
from tests.service.hosted import service
from tests.service.running import serving
from tests.teams import FIVE, FOUR, GUIDANCE, Endless

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs/examples/digits.png"
BASE64 = base64.b64encode(PICTURE.read_bytes()).decode()
URI = f"data:image/png;base64,{BASE64}"
TEAM = f"""
[[clients]]
name = "dots"
specialty = "dots and lines"
backend = "scripted"
model = "script"
replies = [
    {{ when = "it fails", error = "unreachable" }},
    {{ when = "then say seven", text = "Answer: 7" }},
    {json.dumps(FIVE)},
]

[[clients]]
name = "charts"
backend = "scripted"
model = "script"
replies = [
    {{ when = "it fails", error = "unreachable" }},
    {{ when = "count the dots in the corner", text = {json.dumps(FIVE)} }},
    {json.dumps(FOUR)},
]

[server]
backend = "scripted"
model = "script"
replies = [{json.dumps(GUIDANCE)}]
"""


def text(result: types.CallToolResult) -> str:
    (content,) = result.content
    assert isinstance(content, types.TextContent)
    return content.text


@asynccontextmanager
async def local(folder: Path, *arguments: str) -> AsyncGenerator[ClientSession, None]:
    """`colm-vl mcp` as a process, in the folder of its team."""
    (folder / "team.toml").write_text(TEAM)
    command = ["-m", "colm_vl.cli", "mcp", "--team", "team.toml", *arguments]
    started = StdioServerParameters(
        command=sys.executable, args=command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    with (folder / "log.txt").open("w") as log:
        async with stdio_client(started, log) as streams, ClientSession(*streams) as session:
            await session.initialize()
            yield session


async def test_a_desktop_program_asks_over_stdio(tmp_path: Path) -> None:
    (tmp_path / "dots.png").write_bytes(PICTURE.read_bytes())
    told: list[str] = []

    async def progress(_: float, total: float | None, message: str | None) -> None:
        told.append(message or "")

    async with local(tmp_path) as session:
        (tool,) = (await session.list_tools()).tools
        assert tool.name == "ask"
        assert "dots (dots and lines), charts" in (tool.description or "")

        image = {"type": "image", "data": BASE64, "mimeType": "image/png"}
        for pictures in (["dots.png"], [str(tmp_path / "dots.png"), URI, image], [BASE64], URI, []):
            asked = {"question": "How many dots?", "pictures": pictures}
            answer = await session.call_tool("ask", asked, progress_callback=progress)
            assert not answer.isError, text(answer)
            assert answer.structuredContent is not None
            assert answer.structuredContent["answer"] == "5"
            assert answer.structuredContent["said_by"] == ["dots", "charts"]
        assert text(answer).splitlines()[0] == "5"
        assert "dots: 5 (confidence 90%, as the model says)" in text(answer)
        assert {"Drafts: dots, charts", "charts: 4", "server: guidance written"} <= set(told)

        chosen = {"question": "How many dots?", "choices": ["4", "5"]}
        assert text(await session.call_tool("ask", chosen)).startswith("B: 5\n")
        history = [{"role": "user", "text": "How many dots?"}, {"role": "assistant", "text": "then say seven"}]
        follow_up = await session.call_tool("ask", {"question": "Sure?", "pictures": [URI], "history": history})
        assert "- dots: 7" in text(follow_up)


async def test_what_cannot_be_asked_is_one_line_and_the_next_question_is_answered(tmp_path: Path) -> None:
    outside, inside = tmp_path / "private.png", tmp_path / "pictures"
    inside.mkdir()
    outside.write_bytes(PICTURE.read_bytes())
    (inside / "dots.png").write_bytes(PICTURE.read_bytes())
    (inside / "link.png").symlink_to(outside)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({}, "question: field required"),
        ({"question": " "}, "the question is empty"),
        ({"question": "How many?", "picture": "dots.png"}, "picture: extra inputs are not permitted"),
        ({"question": "How many?", "pictures": [7]}, "a picture is of type int"),
        ({"question": "How many?", "pictures": ["nowhere.png"]}, "'nowhere.png' does not exist"),
        ({"question": "How many?", "pictures": ["https://example.org/a.png"]}, "not opened by https: addresses"),
        ({"question": "How many?", "pictures": ["file:///etc/hostname"]}, "not opened by file: addresses"),
        ({"question": "How many?", "pictures": ["../private.png"]}, "not in a folder that may be read"),
        ({"question": "How many?", "pictures": [str(outside)]}, "not in a folder that may be read"),
        ({"question": "How many?", "pictures": ["link.png"]}, "not in a folder that may be read"),
        ({"question": "How many?", "choices": ["one"]}, "expected none or 2 to 26"),
        ({"question": "and it fails"}, "no answer: dots: unreachable; charts: unreachable"),
    ]
    async with local(tmp_path, "--folder", str(inside)) as session:
        for asked, expected in wrong:
            answer = await session.call_tool("ask", asked)
            assert answer.isError
            assert expected in text(answer)
            assert "\n" not in text(answer)
            assert str(inside) not in text(answer)
        assert (await session.call_tool("delete", {})).isError
        assert text(await session.call_tool("ask", {"question": "How many?", "pictures": ["dots.png"]}))[0] == "5"
    assert "Traceback" not in (tmp_path / "log.txt").read_text()


def client_of(address: str, key: str = "") -> Any:
    http = httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"} if key else {}, trust_env=False)
    return streamable_http_client(f"{address}/mcp", http_client=http)


async def test_a_program_asks_the_service_over_http(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    ann = keys.add(file, "ann", 1.0, QuotaTable())
    bob = keys.add(file, "bob", 1.0, QuotaTable(requests_per_minute=1))
    told: list[str] = []

    async def progress(_: float, total: float | None, message: str | None) -> None:
        told.append(message or "")

    app = create_app(service(keys=file, settings={"mcp": True}))
    with serving(app) as address:
        async with client_of(address, ann) as streams, ClientSession(*streams[:2]) as session:
            await session.initialize()
            (tool,) = (await session.list_tools()).tools
            assert "path" not in json.dumps(tool.inputSchema)
            asked = {"question": "How many dots?", "pictures": [URI]}
            answer = await session.call_tool("ask", asked, timedelta(seconds=60), progress_callback=progress)
            assert text(answer).startswith("5\n\nSaid by dots, charts"), text(answer)
            assert "Drafts: dots, charts" in told
            for picture, expected in (
                (str(PICTURE), "a service opens no paths"),
                ("file:///etc/hostname", "a service opens no paths"),
                ("https://example.org/a.png", "remote pictures are not fetched"),
                ("data:image/png;base64,AAAA", "no known format"),
            ):
                refusal = await session.call_tool("ask", {"question": "How many?", "pictures": [picture]})
                assert refusal.isError
                assert expected in text(refusal)
        async with client_of(address, bob) as streams, ClientSession(*streams[:2]) as session:
            await session.initialize()
            assert not (await session.call_tool("ask", {"question": "How many dots?"})).isError
            assert "1 requests" in text(await session.call_tool("ask", {"question": "How many dots?"}))
        async with httpx.AsyncClient(trust_env=False) as http:
            assert (await http.post(f"{address}/mcp", json={})).status_code == 401
            assert (await http.get(f"{address}/mcp", headers={"Authorization": f"Bearer {ann}"})).status_code == 405


def test_web_pages_of_other_sites_cannot_ask_a_service_without_keys() -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    headers = {"Accept": "application/json, text/event-stream"}
    with serving(create_app(service(settings={"mcp": True}))) as address, httpx.Client(trust_env=False) as http:
        assert http.post(f"{address}/mcp", json=body, headers=headers).status_code == 200
        for own in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}):
            assert http.post(f"{address}/mcp", json=body, headers=headers | own).status_code in {403, 421}
    with serving(create_app(service())) as address:
        assert httpx.post(f"{address}/mcp", json=body, headers=headers, trust_env=False).status_code == 404


class Bills(SimpleQueue[Bill]):
    def served(self, bill: Bill) -> None:
        self.put(bill)


def test_a_client_that_leaves_cancels_its_question_and_is_charged_for_it() -> None:
    endless, bills = Endless(), Bills()
    made = service(settings={"mcp": True}, backends={"dots": endless})
    made.sinks = (*made.sinks, bills)
    call = {"name": "ask", "arguments": {"question": "How many dots?"}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    headers = {"Accept": "application/json, text/event-stream"}
    with serving(create_app(made)) as address, httpx.Client(trust_env=False, timeout=60) as http:
        with http.stream("POST", f"{address}/mcp", json=body, headers=headers):
            assert endless.begun.wait(60)
        assert endless.cancelled.wait(60)
        bill = bills.get(timeout=60)
    assert (bill.route, len(bill.traces)) == ("/mcp", 1)
