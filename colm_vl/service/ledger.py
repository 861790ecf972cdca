"""The usage ledger: one row for each request, in an SQLite file that survives restarts.

It holds no questions, answers, pictures or keys. Rows are written by a thread, in the order of the requests; other
processes can read the file at any time.
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from typing_extensions import override

from colm_vl.errors import InputError, OutputError
from colm_vl.service.accounting import Bill

logger = logging.getLogger(__name__)

By = Literal["key", "day", "model", "route"]

_DAY: Final = 86_400
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS requests (
    at REAL NOT NULL, key TEXT NOT NULL, route TEXT NOT NULL, model TEXT NOT NULL, status INTEGER NOT NULL,
    seconds REAL NOT NULL, waited REAL NOT NULL, calls INTEGER NOT NULL, failed_calls INTEGER NOT NULL,
    avoided_calls INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL, server_tokens INTEGER NOT NULL, bytes_in INTEGER NOT NULL,
    bytes_out INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS requests_at ON requests (at);
"""
_INSERT: Final = "INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_GROUPS: Final[Mapping[By, str]] = {
    "key": "key",
    "day": "date(at, 'unixepoch')",
    "model": "model",
    "route": "route",
}
_COUNTED: Final = "route IN ('/v1/chat/completions', '/v1/responses', '/v1/selection', '/v1/guidance', '/v1/verdict')"


@dataclass(frozen=True, slots=True)
class UsageRow:
    """Sums over the requests of one group. `refused` were answered with 4xx, `failed` with 5xx or not at all."""

    group: str
    requests: int
    refused: int
    failed: int
    calls: int
    failed_calls: int
    avoided_calls: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    server_tokens: int
    bytes_in: int
    bytes_out: int
    seconds: float
    waited: float


class Ledger:
    """Writes to the file at `path`. Raises `OutputError` if it cannot be opened. A later failure to write is logged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: queue.SimpleQueue[tuple[object, ...] | None] = queue.SimpleQueue()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with closing(_connect(path)) as database:
                database.execute("PRAGMA journal_mode = WAL")
                database.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise OutputError(f"{path.name}: cannot be opened ({error})", hint="choose another --ledger") from None
        self._thread = _Writer(path, self._rows)
        self._thread.start()

    def served(self, bill: Bill) -> None:
        usage = bill.usage
        self._rows.put(
            (
                bill.at, bill.caller, bill.route, bill.model, bill.status, bill.seconds, bill.waited, len(bill.calls),
                len(bill.failures), bill.avoided, usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens,
                bill.server_tokens, bill.bytes_in, bill.bytes_out,
            )
        )  # fmt: skip

    def server_tokens_since(self, begin: float) -> Mapping[str, int]:
        """Tokens of the server by key, since a Unix time."""
        with closing(_connect(self.path)) as database:
            return dict(
                database.execute("SELECT key, sum(server_tokens) FROM requests WHERE at >= ? GROUP BY key", (begin,))
            )

    def close(self) -> None:
        """Write what is left. Can be called more than once."""
        self._rows.put(None)
        self._thread.join()


class _Writer(threading.Thread):
    def __init__(self, path: Path, rows: queue.SimpleQueue[tuple[object, ...] | None]) -> None:
        super().__init__(name="colm-vl ledger", daemon=True)
        self._path = path
        self._rows = rows

    @override
    def run(self) -> None:
        with closing(_connect(self._path)) as database:
            over = False
            while not over:
                batch = [self._rows.get()]
                while not self._rows.empty():
                    batch.append(self._rows.get())
                over = None in batch
                rows = [row for row in batch if row is not None]
                try:
                    with database:
                        database.executemany(_INSERT, rows)
                except sqlite3.Error as error:
                    logger.error("ledger: %d rows were not written (%s)", len(rows), error)


def day_begun(now: float) -> float:
    """The last midnight UTC, at which the quota of a day begins, as Unix time."""
    return now - now % _DAY


def usage(path: Path, *, by: By = "key", since: float = 0.0) -> Sequence[UsageRow]:
    """Sums over questions and requests for guidance since a Unix time. Raises `InputError` if the file is no ledger."""
    if not path.is_file():
        raise InputError(f"{path}: no ledger", hint="colm-vl serve writes one with --ledger")
    sums = """count(*), sum(status BETWEEN 400 AND 498), sum(status >= 499), sum(calls), sum(failed_calls),
        sum(avoided_calls), sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens), sum(server_tokens),
        sum(bytes_in), sum(bytes_out), sum(seconds), sum(waited)"""
    group = _GROUPS[by]
    query = f"SELECT {group}, {sums} FROM requests WHERE at >= ? AND {_COUNTED} GROUP BY {group} ORDER BY {group}"  # noqa: S608
    try:
        with closing(_connect(path)) as database:
            return [UsageRow(*row) for row in database.execute(query, (since,))]
    except sqlite3.Error as error:
        raise InputError(f"{path}: not a ledger ({error})", hint="give the file that colm-vl serve writes") from None


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=30)
