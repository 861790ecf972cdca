"""Server-sent events, and work that ends when its client is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from typing import Any, Final, TypeVar

import anyio
from fastapi import Request
from fastapi.responses import StreamingResponse

KEEP_ALIVE = 5.0
"""Seconds without data after which a comment is sent. Proxies take a silent connection for a broken one."""
_COMMENT: Final = b": keep-alive\n\n"
_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

_T = TypeVar("_T")


class ClientGone(Exception):
    """The client closed its connection before it got the reply."""


def event_stream(events: AsyncGenerator[str, None]) -> StreamingResponse:
    """A response of one event for each text. `events` is closed if the client goes away, and must not fail."""
    return StreamingResponse(_lines(events), media_type="text/event-stream", headers=_HEADERS)


async def _lines(events: AsyncGenerator[str, None]) -> AsyncIterator[bytes]:
    yield _COMMENT
    coming: asyncio.Task[str | None] | None = None
    try:
        while True:
            coming = coming or asyncio.create_task(_next(events))
            if not (await asyncio.wait([coming], timeout=KEEP_ALIVE))[0]:
                yield _COMMENT
                continue
            data, coming = coming.result(), None
            if data is None:
                return
            yield b"data: " + data.encode("utf-8", "replace") + b"\n\n"
    finally:
        if coming is not None:
            await cancelled(coming)
        with anyio.CancelScope(shield=True):
            await events.aclose()


async def _next(events: AsyncGenerator[str, None]) -> str | None:
    return await anext(events, None)


async def while_connected(request: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """Await the work. Cancels it and raises `ClientGone` if the client goes away. The body must have been read."""
    task, gone = asyncio.create_task(work), asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait([task, gone], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        await cancelled(task, gone)


async def cancelled(*tasks: asyncio.Task[Any]) -> None:
    """Cancel the tasks and wait until they have ended, also if the caller is cancelled itself."""
    for task in tasks:
        task.cancel()
    # Starlette cancels a response by a scope of anyio, in which every further wait is cancelled, too.
    with anyio.CancelScope(shield=True):
        await asyncio.wait(tasks)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
