"""What runs in the processes of a Ray cluster: workers that answer questions, and a reader of the journal.

Does not import Ray: `ray_executor` makes actors of these classes.
"""

from __future__ import annotations

import asyncio
import os
import platform
from array import array
from bisect import bisect_left
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from typing_extensions import override

from colm_vl.backend_pool import BackendPool
from colm_vl.batch.answering import Answering
from colm_vl.batch.executors import connect
from colm_vl.batch.journal import digest_of, generation_of, line_of, places_in, short
from colm_vl.batch.lines import LineReader
from colm_vl.batch.pictures import Pictures
from colm_vl.batch.questions import Row
from colm_vl.batch.scheduling import ModelSchedule
from colm_vl.batch.stats import BatchStats
from colm_vl.errors import ColmError
from colm_vl.store import CallKey, CallsUnderWay, Outcome
from colm_vl.strategies import Choice, choose
from colm_vl.team import Team
from colm_vl.types import Failure, Trace
from processors.sources import is_path

Lookup = Callable[[str], Awaitable["bytes | None"]]


@dataclass(frozen=True, slots=True)
class Ready:
    """`problem` and `hint` say why the worker cannot be used. `loaded` are the models that it has in memory."""

    host: str
    process: int
    loaded: frozenset[str] = frozenset()
    problem: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Answered:
    """The traces of a question, and the calls that were made or avoided for it."""

    traces: tuple[Trace, ...]
    stats: BatchStats


@dataclass(frozen=True, slots=True)
class KnownCalls:
    """The calls of an earlier run: their shortened digests in ascending order, and how to read their lines."""

    shorts: array[int]
    read: Lookup

    async def line(self, digest: str) -> bytes | None:
        wanted = short(digest)
        place = bisect_left(self.shorts, wanted)
        found = place < len(self.shorts) and self.shorts[place] == wanted
        return await self.read(digest) if found else None


class Worker:
    """Answers questions with backends of its own."""

    def __init__(self) -> None:
        self._choices: dict[str, Choice] = {}
        self._pool = BackendPool()
        self._known: KnownCalls | None = None
        self._pictures = Pictures(remote=True)
        self._under_way: set[Answering] = set()
        self._closed = False

    async def ready(self, teams: Sequence[Team], known: KnownCalls | None) -> Ready:
        """Connect the endpoints and load the local models. `teams` have the strategies, one each."""
        # Not arguments of the constructor: they would have to be in memory if this process is started again.
        self._choices = {team.policy.strategy: choose(team) for team in teams}
        self._known = known
        host, process = platform.node(), os.getpid()
        try:
            await connect(list(self._choices.values()), self._pool)
            await self._pool.load(teams[0].members)
        except ColmError as error:
            return Ready(host, process, problem=str(error), hint=error.hint)
        return Ready(host, process, self._pool.loaded)

    async def answer(
        self, row: Row, strategies: Sequence[str], known: Sequence[bytes]
    ) -> AsyncGenerator[tuple[bytes, ...] | Answered, None]:
        """Yield the journal lines of calls as they are finished, and last the answers. `known` are such lines of
        calls that need not be made."""
        finished: asyncio.Queue[bytes | None] = asyncio.Queue()
        calls = _Calls({digest_of(line): line for line in known}, self._known, finished.put_nowait)
        stats = BatchStats()
        answering = Answering(
            [self._choices[name] for name in strategies],
            self._pool,
            calls,
            _Nothing(),
            ModelSchedule(),
            stats,
            self._pictures,
        )
        self._under_way.add(answering)
        if self._closed:
            answering.close()
        asking = asyncio.create_task(answering.answer(_with_readable_pictures(row)))
        asking.add_done_callback(lambda _: finished.put_nowait(None))
        try:
            while (line := await finished.get()) is not None:
                lines = [line]
                while not finished.empty() and (line := finished.get_nowait()) is not None:
                    lines.append(line)
                yield tuple(lines)
                if line is None:
                    break
            yield Answered(tuple(outcome.trace for outcome in asking.result()), stats)
        finally:
            self._under_way.discard(answering)
            asking.cancel()

    async def close(self) -> None:
        """Make no further calls. Running ones continue."""
        self._closed = True
        for answering in self._under_way:
            answering.close()


class _Calls(CallsUnderWay):
    """The calls of one question. `report` gets the lines of finished ones."""

    def __init__(self, lines: Mapping[str, bytes], known: KnownCalls | None, report: Callable[[bytes], None]) -> None:
        super().__init__()
        self._lines = lines
        self._known = known
        self._report = report

    @override
    async def _get(self, key: CallKey) -> Outcome | None:
        line = self._lines.get(key.digest)
        if line is None and self._known is not None:
            line = await self._known.line(key.digest)
        try:
            return None if line is None else generation_of(line, key.digest)
        except (ValueError, RecursionError):  # the line is damaged
            return None

    @override
    async def _put(self, key: CallKey, outcome: Outcome) -> None:
        if not isinstance(outcome, Failure):
            self._report(line_of(key, outcome))


def _with_readable_pictures(row: Row) -> Row:
    """The row, or one whose problem is a picture that is not on this machine."""
    for picture in row.pictures:
        if is_path(picture) and not row.problem and not Path(picture).exists():
            problem = f"{picture} does not exist on {platform.node()}"
            return replace(row, problem=problem, hint="use a folder that all machines have, or s3:// and the like")
    return row


class _Nothing:
    """The driver has looked for answers of an earlier run."""

    def finished(self, row: Row, strategy: str) -> Trace | None:
        return None


class JournalReader:
    """Reads the journals of an earlier run, on the machine that has them."""

    def __init__(self, paths: Collection[Path]) -> None:
        self._files = [LineReader(path) for path in paths]
        self._places = [places_in(file) for file in self._files]

    async def line(self, digest: str) -> bytes | None:
        for file, places in zip(self._files, self._places, strict=True):
            if (offset := places.get(short(digest))) is not None:
                return file.read(offset)
        return None
