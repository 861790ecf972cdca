"""Reads the rows of a batch ahead of their use, without blocking the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from colm_vl.batch.questions import Questions, Row

_AT_ONCE = 16
"""Rows read at a time if they are large: a row can contain several megabytes of pictures."""
_AT_ONCE_SMALL = 256
"""Rows read at a time if they are small: starting a thread for each few would take longer than reading them."""
_SMALL = 1000
"""Characters or bytes of a small row, on average."""


class _Chunk(NamedTuple):
    """Rows. `ended`: there are no more, because of `error` if there is one."""

    rows: Sequence[Row]
    ended: bool
    error: Exception | None = None


class RowReader:
    """The rows of `questions`, one after the other. Rows of a file are read in a thread; `arrived` is called when there
    are more.

    An iterable of `Query` is iterated on the event loop, because it can be a generator that belongs to its thread.
    """

    def __init__(self, questions: Questions, arrived: Callable[[], object]) -> None:
        self._rows: Iterator[Row] = iter(questions)
        self._of_file = questions.of_file
        self._arrived = arrived
        self._read: deque[Row] = deque()
        self._reading = False
        self._exhausted = False
        self._error: Exception | None = None

    @property
    def exhausted(self) -> bool:
        return self._exhausted and not self._read and self._error is None

    def take(self) -> Row | None:
        """The next row, or None if there are no more or it has not been read yet. Raises what reading it raised."""
        if not self._of_file:
            row = next(self._rows, None)
            self._exhausted = row is None
            return row
        if len(self._read) < _AT_ONCE and not self._reading and not self._exhausted:
            self._reading = True
            reading = asyncio.get_running_loop().run_in_executor(None, _next_chunk, self._rows)
            reading.add_done_callback(self._add)
        if self._read:
            return self._read.popleft()
        if self._error is not None:
            raise self._error
        return None

    def close(self) -> None:
        """Read no further rows. The file is closed, if necessary once the thread has ended."""
        self._exhausted = True
        self._rows = iter(())
        self._read.clear()

    def _add(self, reading: asyncio.Future[_Chunk]) -> None:
        self._reading = False
        if self._exhausted or reading.cancelled():
            return
        chunk = reading.result()
        self._read += chunk.rows
        self._error = chunk.error
        self._exhausted = chunk.ended
        self._arrived()


def _next_chunk(rows: Iterator[Row]) -> _Chunk:
    read: list[Row] = []
    room = _SMALL * _AT_ONCE_SMALL
    try:
        for row in rows:
            read.append(row)
            room -= _size(row)
            if len(read) == _AT_ONCE_SMALL or (len(read) >= _AT_ONCE and room <= 0):
                return _Chunk(read, ended=False)
    except Exception as error:
        return _Chunk(read, ended=True, error=error)
    return _Chunk(read, ended=True)


def _size(row: Row) -> int:
    """About the size of a row, in characters or bytes. Open pictures count as large."""
    parts = (row.question, *row.pictures)
    return sum(len(part) if isinstance(part, str | bytes) else _SMALL * _AT_ONCE_SMALL for part in parts)
