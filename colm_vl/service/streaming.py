"""Server-sent events, and work that ends when its client is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Mapping
from contextlib import aclosing
from typing import Any, Final, TypeVar

from fastapi import Request
from fastapi.responses import StreamingResponse

from colm_vl._following import cancelled

KEEP_ALIVE = 5.0
"""Seconds without data after which a comment is sent. Proxies take a silent connection for a broken one."""
EVENTS: Final = "text/event-stream"
_COMMENT: Final = b": keep-alive\n\n"
_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

_T = TypeVar("_T")


def described(events: str, data: Mapping[str, Any] | None = None) -> dict[int | str, dict[str, Any]]:
    """The answer of a route that can stream, for the OpenAPI description. Version 3.1 has no place for the schema of
    the `data` of each event, so it is an extension."""
    content = {EVENTS: {"x-event-data": data} if data else {}}
    return {200: {"description": f"The answer. With `stream`, server-sent events: {events}", "content": content}}


class ClientGone(Exception):
    """The client closed its connection before it got the reply."""


def event_stream(events: AsyncGenerator[str, None], *, keep_alive: float = KEEP_ALIVE) -> StreamingResponse:
    """A response of one event for each text. After `keep_alive` seconds without one, a comment is sent.

    `events` runs in one task. It is closed if the client goes away, and should tell of failures as events.
    """
    return StreamingResponse(_lines(events, keep_alive), media_type=EVENTS, headers=_HEADERS)


async def _lines(events: AsyncGenerator[str, None], keep_alive: float) -> AsyncIterator[bytes]:
    yield _COMMENT
    ready: asyncio.Queue[str | None] = asyncio.Queue()
    task = asyncio.create_task(_pump(events, ready))
    try:
        ended = False
        while not ended:
            try:
                async with asyncio.timeout(keep_alive):
                    coming = [await ready.get()]
            except TimeoutError:
                yield _COMMENT
                continue
            while not ready.empty():  # what is ready at the same time is sent together
                coming.append(ready.get_nowait())
            ended = coming[-1] is None
            if lines := [f"data: {data}\n\n" for data in coming if data is not None]:
                yield "".join(lines).encode("utf-8", "replace")
        await task
    finally:
        await cancelled(task)


async def _pump(events: AsyncGenerator[str, None], ready: asyncio.Queue[str | None]) -> None:
    try:
        async with aclosing(events):
            async for data in events:
                ready.put_nowait(data)
    finally:
        ready.put_nowait(None)


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


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
