"""What leaves a client's machine: everything that a team sends to a guidance service, recorded on the wire."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import PIL.Image
import pytest

from colm_vl import Image, Query, Trace
from colm_vl.backends.scripted import ScriptedBackend
from tests.service.guided import Guided, client
from tests.teams import GUIDANCE

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"


class Recorder:
    """Passes connections on to a service, and keeps all that clients send."""

    def __init__(self, url: str) -> None:
        self.sent = bytearray()
        self._to = urlsplit(url)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self._to.hostname, self._to.port)

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter, kept: bytearray) -> None:
            with suppress(ConnectionError):
                while data := await source.read(1 << 16):
                    kept += data
                    target.write(data)
                    await target.drain()
            target.close()

        await asyncio.gather(copy(reader, back, self.sent), copy(there, writer, bytearray()))


@pytest.fixture
def photo(tmp_path: Path) -> Query:
    """A picture of a million pixels, with a name that tells something."""
    path = tmp_path / "private-name.png"
    noise = PIL.Image.effect_noise((1000, 1000), 60).convert("RGB")
    noise.save(path)
    return Query("How many?", (Image.open(path),), id="private-id", metadata={"patient": "private-data"})


async def ask(photo: Query, **policy: Any) -> tuple[bytes, Trace]:
    with Guided(ScriptedBackend([f"{GUIDANCE}\nAnswer: 5"])).running() as url:
        recorder = Recorder(url)
        async with recorder.listening() as recorded, client(recorded, **policy) as colm:
            trace = await colm.ask(photo)
    assert not trace.failures
    assert trace.guidance or trace.verdict
    return bytes(recorder.sent), trace


def server_calls(trace: Trace) -> list[tuple[int, int]]:
    return [(call.sent.images, call.sent.pixels) for call in trace.calls if call.member == "server"]


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLM_TEST_KEY", "key-of-ann")


@pytest.mark.parametrize("strategy", ["colm", "verdict", "server", "moa"])
async def test_captions_send_no_pixels_at_all(strategy: str, photo: Query) -> None:
    sent, trace = await ask(photo, share="captions", strategy=strategy)
    assert b"/v1/pictures" not in sent
    assert PNG not in sent
    assert JPEG not in sent
    assert photo.images[0].digest.encode() not in sent
    assert photo.images[0].file_digest.encode() not in sent
    assert len(sent) < 5000
    assert set(server_calls(trace)) == {(0, 0)}


async def test_thumbnails_send_no_more_than_their_pixels(photo: Query) -> None:
    sent, trace = await ask(photo, share="thumbnails", thumbnail_pixels=10_000)
    uploads = re.findall(rb"PUT /v1/pictures/[0-9a-f]{64} .*?\r\n\r\n", sent, re.DOTALL)
    assert len(uploads) == 1
    start = sent.index(PNG)
    shown = PIL.Image.open(io.BytesIO(sent[start:]))
    assert shown.width * shown.height <= 10_000
    assert sent.count(PNG) == 1
    assert JPEG not in sent
    assert server_calls(trace) == [(1, shown.width * shown.height)]
    assert b'"pictures_hidden": true' not in sent


async def test_nothing_else_of_a_question_is_sent(photo: Query) -> None:
    sent, trace = await ask(photo)
    assert server_calls(trace) == [(1, 1_000_000)]
    for secret in (b"private-name", b"private-id", b"private-data", b"patient"):
        assert secret not in sent


async def test_blind_drafts_are_sent_without_names(photo: Query) -> None:
    sent, _ = await ask(photo, blind=True)
    assert b"Model 1" in sent
    assert b"eyes" not in sent
