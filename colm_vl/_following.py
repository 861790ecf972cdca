"""Follows work in another task as it happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, Final, TypeVar

import anyio

_T = TypeVar("_T")


class _End:
    pass


_END: Final = _End()


async def follow(work: Callable[[Callable[[_T], None]], Coroutine[Any, Any, None]]) -> AsyncGenerator[_T, None]:
    """Yield what `work` passes to its argument. Raises what it raises. Closing the generator cancels it."""
    passed: asyncio.Queue[_T | _End] = asyncio.Queue()
    task = asyncio.create_task(work(passed.put_nowait))
    task.add_done_callback(lambda _: passed.put_nowait(_END))
    try:
        while not isinstance(item := await passed.get(), _End):
            yield item
        await task
    finally:
        await cancelled(task)


async def cancelled(*tasks: asyncio.Task[Any]) -> None:
    """Cancel the tasks and wait until they have ended, also if the caller is cancelled itself."""
    for task in tasks:
        task.cancel()
    # In a cancelled scope of anyio, as Starlette uses for responses, every further wait would be cancelled, too.
    with anyio.CancelScope(shield=True):
        await asyncio.wait(tasks)
