"""Waits for work that must end before its caller continues, even if the caller is cancelled in the meantime."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any, TypeVar

import anyio

_T = TypeVar("_T")


async def wait_until_done(
    futures: Collection[asyncio.Future[Any]], hurry: Callable[[], object] | None = None, *, grace: float | None = None
) -> None:
    """Wait until all futures are done, even if the caller is cancelled. The last `CancelledError` is then raised.

    `hurry` is called at each cancellation, and once if `grace` seconds have passed.
    """
    cancelled: asyncio.CancelledError | None = None
    # The shield is against anyio's cancel scopes, which cancel every await. It has no effect on `Task.cancel`.
    with anyio.CancelScope(shield=True):
        while pending := [future for future in futures if not future.done()]:
            try:
                _, late = await asyncio.wait(pending, timeout=grace)
            except asyncio.CancelledError as error:
                cancelled = error
            else:
                if not late:
                    continue
            grace = None
            if hurry is not None:
                hurry()
    if cancelled is not None:
        raise cancelled


async def in_thread(work: Callable[[], _T]) -> _T:
    """Run the work in a thread and wait until it has ended, even if the caller is cancelled. `CancelledError` is then
    raised, or else what the work raised."""
    # Not a task: an event loop that ends cancels all tasks, but the thread would continue.
    future = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        await wait_until_done([future])
    finally:
        result = future.result()
    return result
