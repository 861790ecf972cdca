"""Reading questions while a batch runs: in a thread, not far ahead, and with errors in their place."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from types import MappingProxyType

import pytest

from colm_vl import AsyncCoLM, InputError, Query
from colm_vl.batch import questions
from colm_vl.batch.readers import Record
from tests.batch.runs import wording
from tests.teams import FIVE, scripted


class _Rows:
    """A reader of 1,000 rows; `broken_at` makes the second reading, after the survey, fail at a row."""

    def __init__(self, broken_at: int | None = None, padding: int = 0) -> None:
        self.threads = set[threading.Thread]()
        self.readings = self.read = 0
        self._broken_at = broken_at
        self._padding = padding

    def __call__(self, path: Path, question: str) -> Iterator[Record]:
        self.readings += 1
        self.read = 0
        for number in range(1000):
            self.threads.add(threading.current_thread())
            if self.readings == 2 and number == self._broken_at:
                raise OSError(5, "Input/output error")
            self.read += 1
            yield Record(f"row {number}", MappingProxyType({"question": wording(number) + " " * self._padding}))


@pytest.fixture
def colm() -> AsyncCoLM:
    like = scripted({"near": [FIVE]}, strategy="solo")
    return AsyncCoLM(like.team, backends=like.backends)


def _file(folder: Path, monkeypatch: pytest.MonkeyPatch, rows: _Rows) -> Path:
    monkeypatch.setattr(questions, "READERS", {".rows": rows})
    path = folder / "questions.rows"
    path.touch()
    return path


@pytest.mark.parametrize(("padding", "ahead"), [(0, 600), (20_000, 100)])
async def test_files_are_read_in_threads_and_not_far_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, colm: AsyncCoLM, padding: int, ahead: int
) -> None:
    rows = _Rows(padding=padding)
    async with aclosing(colm.batch(_file(tmp_path, monkeypatch, rows), concurrency=2)) as traces:
        for number in range(100):
            assert (await anext(traces)).id == str(number + 1)
        assert 100 <= rows.read <= 100 + ahead
    plan = await colm.plan(_file(tmp_path, monkeypatch, rows))
    assert plan.total == 1000
    assert threading.current_thread() not in rows.threads


async def test_a_read_error_ends_the_batch_after_the_rows_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, colm: AsyncCoLM
) -> None:
    async with aclosing(colm.batch(_file(tmp_path, monkeypatch, _Rows(70)), concurrency=2)) as traces:
        for number in range(60):
            assert (await anext(traces)).id == str(number + 1)
        with pytest.raises(InputError, match=r"questions\.rows: cannot be read \(Input/output error\)"):
            [trace async for trace in traces]


async def test_an_iterable_is_iterated_where_the_batch_runs(colm: AsyncCoLM) -> None:
    threads = set[threading.Thread]()

    def asked() -> Iterator[Query]:
        for number in range(40):
            threads.add(threading.current_thread())
            yield Query(wording(number))

    async with aclosing(colm.batch(asked())) as traces:
        assert len([trace async for trace in traces]) == 40
    assert threads == {threading.current_thread()}
    assert asyncio.all_tasks() == {asyncio.current_task()}
