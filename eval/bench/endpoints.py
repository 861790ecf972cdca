"""Measurements with stub endpoints: throughput, overhead of one question, memory."""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import PIL.Image

from colm_vl import CoLM, Query, Team
from colm_vl.batch import BatchStats
from colm_vl.batch.lines import dump
from processors import images

from .figures import Figure
from .loops import PlainLoop
from .stub import endpoints

LATENCY = 0.05
PLACES = 8
CLIENTS = 2
SIDE = 1000  # a picture of 1 megapixel
_DISTINCT = 40
_SERVER_PIXELS = 200_000
_WARM_UP = 200
_STATM = Path("/proc/self/statm")
"""The memory of this process, in pages (Linux only)."""


def throughput(questions: int) -> Sequence[Figure]:
    """Questions per second while all endpoints are busy. The clients, called twice per question, are the limit."""
    allowed = PLACES / LATENCY / 2
    with endpoints(CLIENTS + 1, latency=LATENCY, places=PLACES) as urls, CoLM(team_at(urls)) as colm:
        run_batch(colm, [Query(f"Warm-up {number}?") for number in range(50)])
        asked = [Query(f"How many dots are there in picture {number}?") for number in range(questions)]
        with tempfile.TemporaryDirectory() as folder:
            begun, cpu = time.monotonic(), time.process_time()
            run_batch(colm, asked, Path(folder), concurrency=4 * PLACES)
            seconds, cpu = time.monotonic() - begun, time.process_time() - cpu
    calls = questions * (2 * CLIENTS + 1)
    return [
        Figure(
            "questions per second, all endpoints busy",
            f"{questions / seconds:.1f}",
            f"≥ {0.9 * allowed:.0f}",
            questions / seconds >= 0.9 * allowed,
            f"{questions:,} questions; {CLIENTS} clients and a server, each with {LATENCY * 1000:.0f} ms latency and "
            f"{PLACES} concurrent requests, which allows {allowed:.0f}; "
            f"{1000 * cpu / calls:.1f} ms of CPU time per call",
        )
    ]


def overhead(questions: int) -> Sequence[Figure]:
    """How much longer one question takes than three calls in a row (such as draft, guidance and refinement) by a plain
    aiohttp loop. Both are measured alternately."""
    own = 3 * LATENCY
    with (
        endpoints(CLIENTS + 1, latency=LATENCY, places=PLACES) as urls,
        CoLM(team_at(urls)) as colm,
        PlainLoop(urls) as plain,
    ):
        for number in range(5):
            colm.ask(f"Warm-up {number}?")
            plain.ask_in_a_row(3)
        ours, theirs = [], []
        for number in range(questions):
            begun = time.monotonic()
            colm.ask(f"How many dots are there in picture {number}?")
            between = time.monotonic()
            plain.ask_in_a_row(3)
            ours.append(between - begun)
            theirs.append(time.monotonic() - between)
    question, calls = statistics.median(ours), statistics.median(theirs)
    more = question / calls - 1
    return [
        Figure(
            "overhead of one question at a time",
            f"{more:.1%}",
            "≤ 3 %",
            more <= 0.03,
            f"median of {questions}: {question * 1000:.1f} ms, compared with {calls * 1000:.1f} ms for three calls in "
            f"a row by a plain aiohttp loop; {question / own - 1:.1%} more than their {own * 1000:.0f} ms at the "
            "endpoint",
        )
    ]


def memory(questions: int) -> Sequence[Figure]:
    """Resident memory over a batch of pictures of 1 megapixel, and how often each is decoded and encoded."""
    with (
        tempfile.TemporaryDirectory() as folder,
        endpoints(2, latency=0.0, places=64) as urls,
        CoLM(team_at(urls, server_pixels=_SERVER_PIXELS)) as colm,
        _counted() as count,
    ):
        path = _write_pictures(Path(folder), questions)
        stats = BatchStats()
        with Memory(stats) as used:
            for trace in colm.batch(path, Path(folder) / "out", concurrency=16, stats=stats):
                assert trace.answer, trace.failures
    what = f"{questions:,} questions with a picture of 1 megapixel each"
    return [
        _growth(used, what),
        Figure(
            "decodings and encodings per picture",
            f"{count['_decode'] / questions:.2f} and {count['_encode'] / questions:.2f}",
            "1 and 2",
            (count["_decode"], count["_encode"]) == (questions, 2 * questions),
            f"{what}, sent at full size to a client and with {_SERVER_PIXELS:,} pixels to the server",
        ),
    ]


def _growth(used: Memory, what: str) -> Figure:
    name, target = "growth of resident memory", "≤ 150 MB"
    if not used.base:
        return Figure(name, "not measured", target, None, f"{what}; needs Linux and more than {_WARM_UP} questions")
    how = f"{what}; from {used.base / 1e6:.0f} MB after the first {_WARM_UP} to a peak of {used.peak / 1e6:.0f} MB"
    return Figure(name, f"{used.growth / 1e6:.0f} MB", target, used.growth <= 150e6, how)


def team_at(urls: Sequence[str], *, server_pixels: int | None = None, places: int = PLACES) -> Team:
    def member(url: str, **more: Any) -> dict[str, Any]:
        return {"backend": "openai", "model": "stub", "base_url": url, "max_concurrency": places, **more}

    *clients, server = urls
    pixels = {"max_pixels": server_pixels} if server_pixels else {}
    return Team.from_dict(
        {
            "clients": [member(url, name=f"client {number}") for number, url in enumerate(clients, 1)],
            "server": member(server, **pixels),
        }
    )


def run_batch(
    colm: CoLM,
    questions: Sequence[Query],
    out: Path | None = None,
    *,
    concurrency: int = 16,
    reply_format: str = "auto",
) -> None:
    for trace in colm.batch(questions, out, concurrency=concurrency, reply_format=reply_format):
        assert trace.answer, trace.failures


def _write_pictures(folder: Path, count: int) -> Path:
    """Write `count` pictures, most of them as hard links to a few files. Each is nevertheless opened separately."""
    for number in range(min(_DISTINCT, count)):
        gradient = PIL.Image.radial_gradient("L").resize((SIDE, SIDE)).rotate(number * 360 / _DISTINCT, fillcolor=255)
        bands = [gradient.point([(value * (band + 1) + number) % 256 for value in range(256)]) for band in range(3)]
        PIL.Image.merge("RGB", bands).save(folder / f"{number}.jpg", quality=85)
    for number in range(_DISTINCT, count):
        (folder / f"{number}.jpg").hardlink_to(folder / f"{number % _DISTINCT}.jpg")
    path = folder / "questions.jsonl"
    with path.open("wb") as file:
        file.writelines(dump({"question": f"What is {number}?", "image": f"{number}.jpg"}) for number in range(count))
    return path


@contextmanager
def _counted() -> Iterator[Counter[str]]:
    """Count the calls of the two functions that decode and encode pictures."""
    count: Counter[str] = Counter()
    lock = threading.Lock()

    def watched(name: str) -> Any:
        real = getattr(images, name)

        def call(*args: Any) -> Any:
            with lock:
                count[name] += 1
            return real(*args)

        return mock.patch.object(images, name, call)

    with watched("_decode"), watched("_encode"):
        yield count


@dataclass
class Memory:
    """The resident memory of this process while a batch runs, in bytes. `base` is its value after the warm-up; 0 if the
    batch ended earlier, or without /proc."""

    stats: BatchStats
    base: int = 0
    peak: int = 0

    def __enter__(self) -> Memory:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def growth(self) -> int:
        return self.peak - self.base

    def _watch(self) -> None:
        while _STATM.exists() and not self._over.wait(0.1):
            if self.stats.over >= _WARM_UP:
                self.peak = max(self.peak, _resident())
                self.base = self.base or self.peak


def _resident() -> int:
    pages = int(_STATM.read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
