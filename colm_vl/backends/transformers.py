"""Backend for models in this process, with transformers: vision-language and text-only models, also in 4 or 8 bits.

    [[clients]]
    name = "charts"
    backend = "transformers"
    model = "Qwen/Qwen2.5-VL-3B-Instruct"   # or a folder
    quantization = "nf4"
    max_pixels = 802816

A model is loaded at its first request, in its own thread, which runs waiting requests as one batch. Requests with
different sampling, length limits, timeouts and streams can share a batch.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from copy import copy
from functools import partial

from colm_vl.backends._batch import Event, Job
from colm_vl.backends._common import check_pictures
from colm_vl.backends._loading import LocalModel, Options, load
from colm_vl.backends._worker import Worker
from colm_vl.backends.base import Capabilities, Generation, Request
from colm_vl.errors import BackendError, ColmError, TimedOut

__all__ = ["Options", "TransformersBackend", "connect"]


def connect(options: Options) -> TransformersBackend:
    return TransformersBackend(options)


class TransformersBackend:
    def __init__(self, options: Options) -> None:
        self._options = options
        self._closed = False
        self._capabilities: Capabilities | None = None
        self._worker = Worker(
            partial(load, options),
            max_batch=options.max_batch,
            batch_wait=options.batch_wait,
            max_pixels=options.max_pixels,
            keep_bytes=options.keep_mb * 2**20,
        )
        # Frees the model if the backend is garbage-collected without being closed.
        weakref.finalize(self, self._worker.stop).atexit = False

    async def generate(self, request: Request) -> Generation:
        async with aclosing(self._events(request, streamed=False)) as events:
            async for event in events:
                if isinstance(event, Generation):
                    return event
        raise _silent(self._options)

    async def stream(self, request: Request) -> AsyncIterator[str | Generation]:
        async with aclosing(self._events(request, streamed=True)) as events:
            async for event in events:
                if isinstance(event, (str, Generation)):
                    yield event

    async def capabilities(self) -> Capabilities:
        if self._capabilities is None:
            async with aclosing(self._events(None, streamed=False)) as events:
                async for event in events:
                    if isinstance(event, LocalModel):
                        pictures = self._options.max_images if event.family.sees else 0
                        self._capabilities = Capabilities(pictures, True, event.context, event.detail)
        if self._capabilities is None:
            raise _silent(self._options)
        return self._capabilities

    async def aclose(self) -> None:
        """Waits for the current decoding step, if there is one."""
        self._closed = True
        await asyncio.to_thread(self._worker.close)

    async def _events(self, request: Request | None, *, streamed: bool) -> AsyncGenerator[Event, None]:
        if self._closed:
            raise BackendError(f"model {self._options.model!r} was closed", hint="connect it again")
        if request is not None:
            check_pictures(request, self._options.max_images, self._options.model)
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Event] = asyncio.Queue()
        job = Job(request, partial(_hand_over, loop, events), streamed)
        timeout = request.timeout if request else None
        deadline = None if timeout is None else loop.time() + timeout
        self._worker.submit(job)
        try:
            while True:
                # The timeout applies to each wait, not to the loop, so that the consumer of a stream can be slow.
                async with asyncio.timeout_at(deadline):
                    event = await events.get()
                if isinstance(event, ColmError):
                    # A copy, because several requests can get the same error, and each raise extends its traceback.
                    raise copy(event) from event.__cause__
                yield event
                if not isinstance(event, str):
                    return
        except TimeoutError:
            raise TimedOut(
                f"model {self._options.model!r} did not answer within {timeout:g} s",
                hint="allow more time, fewer tokens, or a lower max_pixels",
            ) from None
        finally:
            job.cancelled = True  # has no effect after success


def _hand_over(loop: asyncio.AbstractEventLoop, events: asyncio.Queue[Event], event: Event) -> None:
    """Pass an event from the worker's thread to the caller's event loop."""
    with suppress(RuntimeError):  # the loop was closed, so nobody waits
        loop.call_soon_threadsafe(events.put_nowait, event)


def _silent(options: Options) -> BackendError:
    return BackendError(f"model {options.model!r} gave no reply", hint="this is a bug: please report it")
