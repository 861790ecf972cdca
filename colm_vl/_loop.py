"""A thread with an event loop, and iterators that run on it for callers of both kinds."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future, InvalidStateError, wait
from contextlib import suppress
from types import AsyncGeneratorType
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")
_CLEAN_UP_SECONDS = 10
_LET_GO_SECONDS = 2
_CLOSED = "this CoLM is closed"
_FORKED = "this CoLM was made before the process forked: make another one here"


class LoopThread:
    """An event loop of our own. Everything async of one `CoLM` runs on it, so that its connections and locks meet one
    loop whoever calls: a script, a notebook whose loop is running, several threads.

    `let_go` closes what was opened on the loop; it is run when the thread ends, also if nobody closed it."""

    def __init__(self, let_go: Callable[[], Coroutine[Any, Any, None]] | None = None) -> None:
        self._loop = asyncio.new_event_loop()
        self._jobs: set[_Job[Any]] = set()
        self._lock = threading.Lock()
        self._ended = False
        # A daemon: a user who forgets to close must still be able to leave the interpreter.
        self._thread = threading.Thread(target=self._loop.run_forever, name="colm-vl", daemon=True)
        self._thread.start()
        self.close = weakref.finalize(self, _stop, self._loop, self._thread, let_go)

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Wait for `work` here; an interrupt (Ctrl-C) cancels it and lets it clean up before it is raised again.

        Raises `RuntimeError` once the work is ended, also to those who are waiting then."""
        return _wait(self._take_on(work))

    def end_work(self) -> None:
        """Take on no more; cancel what is under way and let it clean up, iterators that were left, and that nobody
        closed, included. An `async for` that is broken out of closes nothing by itself."""
        with self._lock:
            self._ended = True
            jobs = list(self._jobs)
        for job in jobs:
            job.give_up(_CLOSED)
        wait([job.outcome for job in jobs], _CLEAN_UP_SECONDS)
        for job in jobs:
            job.fail(RuntimeError(_CLOSED))
        self.finish(self._loop.shutdown_asyncgens())

    def finish(self, work: Coroutine[Any, Any, _T]) -> _T:
        """As `run`, for what is left to do when the work is ended."""
        return _wait(_Job(work, self._loop))

    @property
    def ended(self) -> bool:
        return self._ended or self.forked

    @property
    def forked(self) -> bool:
        """Whether this is a child process: threads stay behind in the parent, and nothing would ever be done."""
        return not self._thread.is_alive() and not self._loop.is_closed()

    async def arun(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Wait for `work` on the caller's loop; cancelling the caller cancels it and lets it clean up."""
        job = self._take_on(work)
        outcome = asyncio.wrap_future(job.outcome)
        try:
            return await asyncio.shield(outcome)
        except asyncio.CancelledError:
            job.cancel()
            await asyncio.wait([outcome], timeout=_CLEAN_UP_SECONDS)
            if outcome.done() and not outcome.cancelled():
                outcome.exception()  # looked at: asyncio else logs that nobody did
            raise

    def _take_on(self, work: Coroutine[Any, Any, _T]) -> _Job[_T]:
        with self._lock:
            if self.ended:
                work.close()
                raise RuntimeError(_FORKED if self.forked else _CLOSED)
            job = _Job(work, self._loop)
            self._jobs.add(job)
        job.outcome.add_done_callback(lambda _: self._jobs.discard(job))
        return job


class _Job(Generic[_T]):
    """Work on another thread's loop. `outcome` is never cancelled itself: it tells when the work has really ended,
    which the future of `asyncio.run_coroutine_threadsafe` does not."""

    def __init__(self, work: Coroutine[Any, Any, _T], loop: asyncio.AbstractEventLoop) -> None:
        self.outcome: Future[_T] = Future()
        self._loop = loop
        self._task: asyncio.Task[_T] | None = None
        self._reason = ""
        loop.call_soon_threadsafe(self._begin, work)

    def cancel(self) -> None:
        if not self.outcome.done():
            self._loop.call_soon_threadsafe(lambda: self._task and self._task.cancel())

    def give_up(self, reason: str) -> None:
        """Cancel the work; whoever waits for it, and was not cancelled himself, gets a `RuntimeError`."""
        self._reason = reason
        self.cancel()

    def fail(self, error: BaseException) -> None:
        with suppress(InvalidStateError):  # it has ended after all
            self.outcome.set_exception(error)

    def _begin(self, work: Coroutine[Any, Any, _T]) -> None:
        self._task = self._loop.create_task(work)
        self._task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[_T]) -> None:
        if task.cancelled():
            self.fail(RuntimeError(self._reason) if self._reason else asyncio.CancelledError())
        elif error := task.exception():
            self.fail(error)
        else:
            with suppress(InvalidStateError):
                self.outcome.set_result(task.result())


def _wait(job: _Job[_T]) -> _T:
    try:
        return job.outcome.result()
    except BaseException:
        job.cancel()
        try:
            wait([job.outcome], _CLEAN_UP_SECONDS)
        except KeyboardInterrupt:  # a second one: what it waits for while it cleans up is cancelled as well
            job.cancel()
            wait([job.outcome], 1)
        raise


class Stream(Generic[_T]):
    """Items as they come, with `for` or with `async for`; leaving the loop early stops the work behind them."""

    def __init__(self, loop: Callable[[], LoopThread], start: Callable[[], AsyncGenerator[_T, None]]) -> None:
        self._loop = loop
        self._start = start

    def __iter__(self) -> Iterator[_T]:
        loop, source = self._loop(), self._start()
        try:
            while items := loop.run(_next(source)):
                yield items[0]
        finally:
            if not loop.ended:
                loop.run(_close(source))

    async def __aiter__(self) -> AsyncIterator[_T]:
        loop, source = self._loop(), self._start()
        try:
            while items := await loop.arun(_next(source)):
                yield items[0]
        finally:
            if not loop.ended:
                await loop.arun(_close(source))


async def _next(source: AsyncGenerator[_T, None]) -> tuple[_T, ...]:
    """The next item, alone in a tuple; an empty one at the end."""
    try:
        return (await anext(source),)
    except StopAsyncIteration:
        return ()


async def _close(source: AsyncGenerator[Any, None]) -> None:
    if isinstance(source, AsyncGeneratorType) and source.ag_running:
        return  # it is cleaning up already, and was interrupted a second time
    await source.aclose()


def _stop(
    loop: asyncio.AbstractEventLoop, thread: threading.Thread, let_go: Callable[[], Coroutine[Any, Any, None]] | None
) -> None:
    if not thread.is_alive():
        return  # in a forked child: the loop's descriptors are the parent's
    if let_go is not None and thread is not threading.current_thread():
        # What cannot be closed any more, at the interpreter's end or in time, ends with the process.
        with suppress(Exception):
            asyncio.run_coroutine_threadsafe(let_go(), loop).result(_LET_GO_SECONDS)
    loop.call_soon_threadsafe(loop.stop)
    if thread is not threading.current_thread():
        thread.join(_CLEAN_UP_SECONDS)
    if not loop.is_running():
        loop.close()
