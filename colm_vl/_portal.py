"""Runs coroutines on an event loop in its own thread, called from any thread or from another event loop."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import AsyncExitStack, suppress
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
    """Runs a portal until it is stopped, then awaits `close`. The future `closed` gets the result or the exception.

    It is a daemon thread, so that a `CoLM` that was never closed does not keep the interpreter from exiting.
    """

    def __init__(self, close: Callable[[], Awaitable[None]]) -> None:
        super().__init__(name="colm-vl", daemon=True)
        self.served: Future[BlockingPortal] = Future()
        self.closed: Future[None] = Future()
        self.sources: set[AsyncGenerator[Any, None]] = set()
        """The generators behind half-read iterators, referenced here until they are closed. Without the reference, the
        garbage collector closes a generator and the generators nested in it at the same time, which fails because each
        of them also closes the next."""
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
        """Schedule a coroutine on the loop, from any thread, without waiting for it. Does nothing once the loop has
        ended."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._begin, call, arguments)

    async def close_source(self, source: AsyncGenerator[Any, None]) -> None:
        if not (isinstance(source, AsyncGeneratorType) and source.ag_running):  # running after a second interrupt
            await source.aclose()
        self.sources.discard(source)

    def _begin(self, call: Callable[..., Coroutine[Any, Any, None]], arguments: tuple[Any, ...]) -> None:
        task = self._loop.create_task(call(*arguments))
        self._tasks.add(task)  # a loop keeps only weak references to its tasks
        task.add_done_callback(self._tasks.discard)

    async def _serve(self) -> None:
        async with AsyncExitStack() as stack:  # each step is taken even if another fails
            stack.push_async_callback(self._close)
            stack.push_async_callback(self._close_sources)
            async with BlockingPortal() as portal:
                self.served.set_result(portal)
                await portal.sleep_until_stopped()

    async def _close_sources(self) -> None:
        """Close the iterators that were abandoned and never closed. Raises what closing one of them raised."""
        if self._tasks:
            await asyncio.wait(self._tasks)
        async with AsyncExitStack() as stack:
            for source in list(self.sources):
                stack.push_async_callback(self.close_source, source)


class Portal:
    """The event loop of one `CoLM`. It can be called from a script, from a notebook with a running loop, and from
    several threads. `close` is awaited on the loop when the portal is closed or the interpreter exits."""

    def __init__(self, close: Callable[[], Awaitable[None]]) -> None:
        self._process = os.getpid()
        self._thread = _LoopThread(close)
        self._thread.start()
        self._portal = self._thread.served.result()
        self._stop = weakref.finalize(self, _stop, self._thread, self._process)

    @property
    def closed(self) -> bool:
        """True if the portal was closed, or if it was made before this process was forked."""
        return not self._stop.alive or os.getpid() != self._process

    @property
    def thread(self) -> _LoopThread:
        return self._thread

    def run(self, call: Callable[..., Awaitable[_T]], *arguments: Any) -> _T:
        """Run the call on the portal's loop and block until it returns. An interrupt (Ctrl-C) cancels the call, lets it
        clean up, and is then raised again.

        Raises `RuntimeError` if the portal is closed before or during the call.
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
            if self.closed:
                self._refuse()
            raise
        except BaseException:
            if future.cancel():
                ended.wait(_CLEAN_UP_SECONDS)
            raise

    async def arun(self, call: Callable[..., Awaitable[_T]], *arguments: Any) -> _T:
        """Like `run`, but awaited on the caller's loop. If the caller is cancelled, so is the call."""
        if self.closed:
            self._refuse()
        try:
            return await self._portal.call_async(call, *arguments)
        except CancelledError:
            if self.closed:
                self._refuse()
            raise

    def close_source(self, source: AsyncGenerator[Any, None]) -> None:
        """Close the generator of an iterator and wait for it, with a timeout: the garbage collector can close a
        half-read iterator in any thread, which may hold a lock that the loop is waiting for. A loop thread does not
        wait."""
        if isinstance(threading.current_thread(), _LoopThread):
            self._thread.soon(self._thread.close_source, source)
        elif not self.closed:
            future = self._started(lambda: self._thread.close_source(source))
            with suppress(TimeoutError, CancelledError):
                future.result(_CLEAN_UP_SECONDS)

    def close(self) -> None:
        """Cancel running calls, let them clean up, and stop the loop. Can be called more than once.

        Raises whatever closing the engine raised.
        """
        if not self.closed:
            self._stop()
            if threading.current_thread() is self._thread:
                return
            self._thread.join(_CLEAN_UP_SECONDS)
            if self._thread.closed.done():
                self._thread.closed.result()
            else:
                logger.warning("running calls are still being cleaned up after %s s", _CLEAN_UP_SECONDS)

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
    """Yields items as they are produced, with `for` or `async for`. Leaving the loop early cancels the work.

    With `in_groups`, the generator yields sequences of items. Each step from thread to thread costs about as much as an
    HTTP request, so a generator that has several items at a time should pass them on together.
    """

    def __init__(
        self, portal: Callable[[], Portal], start: Callable[[], AsyncGenerator[Any, None]], *, in_groups: bool = False
    ) -> None:
        self._portal = portal
        self._start = start
        self._in_groups = in_groups

    def __iter__(self) -> Iterator[_T]:
        portal, source = self._portal(), self._start()
        thread = portal.thread
        thread.sources.add(source)
        try:
            while items := portal.run(self._next, source):
                yield from items
        finally:
            portal.close_source(source)

    async def __aiter__(self) -> AsyncIterator[_T]:
        portal, source = self._portal(), self._start()
        thread = portal.thread
        thread.sources.add(source)
        try:
            while items := await portal.arun(self._next, source):
                for item in items:
                    yield item
        finally:
            if not portal.closed:
                await portal.arun(thread.close_source, source)

    async def _next(self, source: AsyncGenerator[Any, None]) -> Sequence[_T]:
        """The next items, none at the end."""
        try:
            item = await anext(source)
        except StopAsyncIteration:
            return ()
        return item if self._in_groups else (item,)


def _stop(thread: _LoopThread, process: int) -> None:
    if os.getpid() != process:
        return  # in a forked child the loop's file descriptors belong to the parent
    thread.soon(thread.served.result().stop, True)
    if not _in_event_loop():
        thread.join(_CLEAN_UP_SECONDS)


def _in_event_loop() -> bool:
    """Whether this thread is running an event loop, which must not wait for another thread's."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
