"""Calls from any thread, and from any event loop, into an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from types import AsyncGeneratorType
from typing import Any, Generic, NoReturn, TypeVar

from anyio.from_thread import BlockingPortal
from typing_extensions import override

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_CLEAN_UP_SECONDS = 10
_CLOSED = "this CoLM is closed"
_FORKED = "this CoLM was made before the process forked: make another one here"


class _LoopThread(threading.Thread):
    """Serves a portal until it is stopped, then awaits `close`. `closed` tells how that went.

    A daemon: a user who forgets to close must still be able to leave the interpreter.
    """

    def __init__(self, close: Callable[[], Awaitable[None]]) -> None:
        super().__init__(name="colm-vl", daemon=True)
        self.served: Future[BlockingPortal] = Future()
        self.closed: Future[None] = Future()
        self.sources: set[AsyncGenerator[Any, None]] = set()
        """The generators of half-read iterators, held here until they are closed: the garbage collector would close at
        the same time all generators that one is made of, while each of them also closes the next one."""
        self._close = close
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    @override
    def run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        except BaseException as error:
            self.closed.set_exception(error)
        else:
            self.closed.set_result(None)

    def soon(self, call: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
        """Have the loop await this, without waiting for it, from any thread. Does nothing once the loop has ended."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._begin, call, arguments)

    async def close_source(self, source: AsyncGenerator[Any, None]) -> None:
        if not (isinstance(source, AsyncGeneratorType) and source.ag_running):  # else it was interrupted a second time
            await source.aclose()
        self.sources.discard(source)

    def _begin(self, call: Callable[..., Coroutine[Any, Any, None]], arguments: tuple[Any, ...]) -> None:
        task = self._loop.create_task(call(*arguments))
        self._tasks.add(task)  # a loop keeps only weak references to its tasks
        task.add_done_callback(self._tasks.discard)

    async def _serve(self) -> None:
        async with BlockingPortal() as portal:
            self.served.set_result(portal)
            await portal.sleep_until_stopped()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for source in list(self.sources):  # iterators that were left and that nobody closed
            await self.close_source(source)
        await self._close()


class Portal:
    """An event loop on which everything of one `CoLM` runs, whoever calls: a script, a notebook whose loop is running,
    several threads. `close` is awaited on the loop when the portal is closed, also at the interpreter's end."""

    def __init__(self, close: Callable[[], Awaitable[None]]) -> None:
        self._process = os.getpid()
        self._thread = _LoopThread(close)
        self._thread.start()
        self._portal = self._thread.served.result()
        self._stop = weakref.finalize(self, _stop, self._thread, self._process)

    @property
    def closed(self) -> bool:
        """Whether it takes no more calls: it was closed, or it belongs to the process that this one was forked from."""
        return not self._stop.alive or os.getpid() != self._process

    @property
    def thread(self) -> _LoopThread:
        return self._thread

    def run(self, call: Callable[..., Awaitable[_T]], *arguments: Any) -> _T:
        """Wait here for the call. An interrupt (Ctrl-C) cancels it and lets it clean up before it is raised again.

        Raises `RuntimeError` once the portal is closed, also to those who are waiting then.
        """
        ended = threading.Event()

        async def tracked() -> _T:
            try:
                return await call(*arguments)
            finally:
                ended.set()

        future = self._started(tracked)
        try:
            return future.result()
        except CancelledError:
            self._refuse()
        except BaseException:
            if future.cancel():
                ended.wait(_CLEAN_UP_SECONDS)
            raise

    async def arun(self, call: Callable[..., Awaitable[_T]], *arguments: Any) -> _T:
        """Wait for the call on the caller's loop; cancelling the caller cancels it and lets it clean up."""
        if self.closed:
            self._refuse()
        try:
            return await self._portal.call_async(call, *arguments)
        except CancelledError:
            self._refuse()

    def close(self) -> None:
        """Cancel what is under way, let it clean up, and end the loop. Closing twice is harmless.

        Raises what the closing of the engine raised.
        """
        if not self.closed:
            self._stop()
            if self._thread.closed.done():
                self._thread.closed.result()
            elif threading.current_thread() is not self._thread:
                logger.warning("what was under way is still being cleaned up after %s s", _CLEAN_UP_SECONDS)

    def _started(self, call: Callable[[], Awaitable[_T]]) -> Future[_T]:
        if self.closed:
            self._refuse()
        try:
            return self._portal.start_task_soon(call)
        except RuntimeError:
            if self.closed:
                self._refuse()
            raise

    def _refuse(self) -> NoReturn:
        raise RuntimeError(_CLOSED if os.getpid() == self._process else _FORKED) from None


class Stream(Generic[_T]):
    """Items as they come, with `for` or with `async for`; leaving the loop early stops the work behind them."""

    def __init__(self, portal: Callable[[], Portal], start: Callable[[], AsyncGenerator[_T, None]]) -> None:
        self._portal = portal
        self._start = start

    def __iter__(self) -> Iterator[_T]:
        portal, source = self._portal(), self._start()
        thread = portal.thread
        thread.sources.add(source)
        try:
            while items := portal.run(_next, source):
                yield items[0]
        finally:
            # The garbage collector may end a half-read iterator in any thread. One with a loop of ours must not wait.
            if isinstance(threading.current_thread(), _LoopThread):
                thread.soon(thread.close_source, source)
            elif not portal.closed:
                portal.run(thread.close_source, source)

    async def __aiter__(self) -> AsyncIterator[_T]:
        portal, source = self._portal(), self._start()
        thread = portal.thread
        thread.sources.add(source)
        try:
            while items := await portal.arun(_next, source):
                yield items[0]
        finally:
            if not portal.closed:
                await portal.arun(thread.close_source, source)


async def _next(source: AsyncGenerator[_T, None]) -> tuple[_T, ...]:
    """The next item, alone in a tuple; an empty one at the end."""
    try:
        return (await anext(source),)
    except StopAsyncIteration:
        return ()


def _stop(thread: _LoopThread, process: int) -> None:
    if os.getpid() != process:
        return  # in a forked child: the loop's descriptors are the parent's
    thread.soon(thread.served.result().stop, True)
    if threading.current_thread() is not thread:
        thread.join(_CLEAN_UP_SECONDS)
