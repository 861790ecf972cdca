"""A thread with an event loop, and iterators that run on it for callers of both kinds."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future, wait
from types import AsyncGeneratorType
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")
_CLEAN_UP_SECONDS = 10


class LoopThread:
    """An event loop of our own. Everything async of one `CoLM` runs on it, so that its connections and locks meet one
    loop whoever calls: a script, a notebook whose loop is running, several threads."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        # A daemon: a user who forgets to close must still be able to leave the interpreter.
        thread = threading.Thread(target=self._loop.run_forever, name="colm-vl", daemon=True)
        thread.start()
        self.close = weakref.finalize(self, _stop, self._loop, thread)

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Wait for `work` here; an interrupt (Ctrl-C) cancels it and lets it clean up before it is raised again."""
        job = _Job(work, self._loop)
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

    def end_streams(self) -> None:
        """Let iterators that were left, and that nobody closed, clean up. An `async for` that is broken out of closes
        nothing by itself."""
        self.run(self._loop.shutdown_asyncgens())

    @property
    def closed(self) -> bool:
        return self._loop.is_closed()

    async def arun(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Wait for `work` on the caller's loop; cancelling the caller cancels it and lets it clean up."""
        job = _Job(work, self._loop)
        outcome = asyncio.wrap_future(job.outcome)
        try:
            return await asyncio.shield(outcome)
        except asyncio.CancelledError:
            job.cancel()
            await asyncio.wait([outcome], timeout=_CLEAN_UP_SECONDS)
            raise


class _Job(Generic[_T]):
    """Work on another thread's loop. `outcome` is never cancelled itself: it tells when the work has really ended,
    which the future of `asyncio.run_coroutine_threadsafe` does not."""

    def __init__(self, work: Coroutine[Any, Any, _T], loop: asyncio.AbstractEventLoop) -> None:
        self.outcome: Future[_T] = Future()
        self._loop = loop
        self._task: asyncio.Task[_T] | None = None
        loop.call_soon_threadsafe(self._begin, work)

    def cancel(self) -> None:
        if not self.outcome.done():
            self._loop.call_soon_threadsafe(lambda: self._task and self._task.cancel())

    def _begin(self, work: Coroutine[Any, Any, _T]) -> None:
        self._task = self._loop.create_task(work)
        self._task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[_T]) -> None:
        if task.cancelled():
            self.outcome.set_exception(asyncio.CancelledError())
        elif error := task.exception():
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(task.result())


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
            if not loop.closed:
                loop.run(_close(source))

    async def __aiter__(self) -> AsyncIterator[_T]:
        loop, source = self._loop(), self._start()
        try:
            while items := await loop.arun(_next(source)):
                yield items[0]
        finally:
            if not loop.closed:
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


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    loop.call_soon_threadsafe(loop.stop)
    if thread is not threading.current_thread():
        thread.join(_CLEAN_UP_SECONDS)
    if not loop.is_running():
        loop.close()
