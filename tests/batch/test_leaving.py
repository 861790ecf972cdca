"""Batches that are cancelled, abandoned or out of disk space: nothing runs on, and no finished call is lost."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from colm_vl import AsyncCoLM, OutputError, Query, Trace
from colm_vl.backends.base import Capabilities, Generation, Request
from colm_vl.batch import runner
from tests.batch.runs import read_lines
from tests.teams import FIVE, scripted

QUESTIONS = [Query(f"How many in number {number}?", id=str(number)) for number in range(50)]


class Held:
    """A backend whose calls last until `release` is set. A cancelled call takes a moment longer, and has a reply."""

    def __init__(self) -> None:
        self.made = self.under_way = 0
        self.begun = asyncio.Event()
        self.release = asyncio.Event()

    async def generate(self, request: Request) -> Generation:
        self.made += 1
        self.under_way += 1
        self.begun.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            await _turns()
        finally:
            self.under_way -= 1
        return Generation(FIVE)

    async def stream(self, request: Request) -> AsyncIterator[str | Generation]:
        yield await self.generate(request)

    async def capabilities(self) -> Capabilities:
        return Capabilities()

    async def aclose(self) -> None:
        pass


def _engine(backend: Any = None) -> AsyncCoLM:
    like = scripted({"near": [FIVE]}, strategy="solo")
    return AsyncCoLM(like.team, backends=like.backends if backend is None else {"near": backend})


async def _read(colm: AsyncCoLM, out: Path, count: int = 50) -> list[Trace]:
    async with aclosing(colm.batch(QUESTIONS[:count], out, concurrency=4)) as traces:
        return [trace async for trace in traces]


async def _turns() -> None:
    """Let everything that is ready run."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize("cancels", [2, 3])
async def test_a_batch_cancelled_again_ends_its_calls_before_the_folder_is_closed(tmp_path: Path, cancels: int) -> None:
    backend = Held()
    colm = _engine(backend)
    reading = asyncio.create_task(_read(colm, tmp_path / "out"))
    await backend.begun.wait()
    for _ in range(cancels):
        reading.cancel()
        await _turns()
    await asyncio.wait([reading])
    assert reading.cancelled()
    assert backend.under_way == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}
    # Replies that arrived despite the cancellation are kept.
    assert len(read_lines(tmp_path / "out" / "calls.jsonl")) == backend.made == 4
    backend.release.set()
    assert len(await _read(colm, tmp_path / "out", 4)) == backend.made == 4


async def test_a_batch_cancelled_once_waits_for_its_calls(tmp_path: Path) -> None:
    backend = Held()
    reading = asyncio.create_task(_read(_engine(backend), tmp_path / "out"))
    await backend.begun.wait()
    reading.cancel()
    await _turns()
    assert not reading.done()
    backend.release.set()
    await asyncio.wait([reading])
    assert reading.cancelled()
    assert len(read_lines(tmp_path / "out" / "answers.jsonl")) == backend.made == 4


async def test_a_batch_cancelled_while_its_folder_opens_leaves_it_unlocked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening, go_on, fsync = threading.Event(), threading.Event(), os.fsync

    def slow(file: int) -> None:
        opening.set()
        assert go_on.wait(10)
        fsync(file)

    monkeypatch.setattr(os, "fsync", slow)
    reading = asyncio.create_task(_read(_engine(), tmp_path / "out"))
    assert await asyncio.to_thread(opening.wait, 10)
    for _ in range(2):
        reading.cancel()
        await _turns()
        assert not reading.done()
    go_on.set()
    await asyncio.wait([reading])
    assert reading.cancelled()
    assert [trace.answer for trace in await _read(_engine(), tmp_path / "out", 2)] == ["5", "5"]


@pytest.mark.parametrize("way", ["kept", "dropped", "in a cycle"])
def test_a_half_read_batch_is_closed_silently_when_the_loop_ends(tmp_path: Path, way: str) -> None:
    complaints: list[dict[str, Any]] = []
    kept: list[AsyncGenerator[Trace, None]] = []

    async def begin() -> None:
        traces = _engine().batch(QUESTIONS, tmp_path / "out", concurrency=4)
        await anext(traces)
        if way == "kept":
            kept.append(traces)
        elif way == "in a cycle":
            cycle: list[Any] = [traces]
            cycle.append(cycle)

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        await begin()
        gc.collect()
        await _turns()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if way == "in a cycle" and others:
            await asyncio.wait(others)

    asyncio.run(main())
    assert complaints == []
    assert len(read_lines(tmp_path / "out" / "calls.jsonl")) >= len(read_lines(tmp_path / "out" / "traces.jsonl")) >= 1
    again = asyncio.run(_read(_engine(), tmp_path / "out"))
    assert [trace.id for trace in again] == [query.id for query in QUESTIONS]


@contextmanager
def _small_disk(free: int) -> Iterator[None]:
    """No file can grow beyond `free` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_full_disk_ends_the_batch_while_questions_are_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "GRACE_SECONDS", 0.1)
    held = Held()

    class FirstHeld(Held):
        async def generate(self, request: Request) -> Generation:
            self.made += 1
            if "number 0?" in request.messages[-1].text:
                return await held.generate(request)
            return Generation(FIVE)

    backend = FirstHeld()
    with _small_disk(2000), pytest.raises(OutputError, match=r"\.jsonl: cannot be written \(File too large\)"):
        await _read(_engine(backend), tmp_path / "out")
    kept = len(read_lines(tmp_path / "out" / "calls.jsonl"))
    assert 0 < kept < backend.made <= kept + 4
