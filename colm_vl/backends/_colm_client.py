"""Client for a guidance service. `_http_calls.py` makes the calls.

Replies are always streamed, so that proxies do not close the connection during a long wait. The timeout of a
request does not include the time that it waits in the service's queue, for which `queue_timeout` is the limit.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from pydantic import TypeAdapter, ValidationError

from colm_vl.backends._colm_uploads import ServiceCall, StatusFailure, Uploads
from colm_vl.backends._common import check_pictures
from colm_vl.backends._http import HttpReply
from colm_vl.backends._http_calls import HttpCalls
from colm_vl.backends._http_errors import StatusError, Target, of_status, retry_after
from colm_vl.backends.base import Capabilities, Generation, Piece, QueuePlace, Request
from colm_vl.errors import BACKEND_ERRORS, BackendError, BadReply, InputError, RateLimited, TimedOut
from colm_vl.guidance_protocol import (
    MISSING_PICTURE,
    Queued,
    Reply,
    ReplyDone,
    Started,
    StreamError,
    StreamEvent,
    StreamFailed,
    Task,
    TextDelta,
    of_messages,
)
from colm_vl.types import Sent

if TYPE_CHECKING:
    from colm_vl.backends.colm import Options

_MOST_BYTES = 64 << 20
"""Limit of a stream. The service limits its replies, so only a stream that never ends reaches it."""
_END: Final = object()

_event = TypeAdapter[Any](StreamEvent)


class ServiceBackend:
    """A guidance service. Its requests are those of `guidance_protocol.as_messages`."""

    def __init__(self, options: Options, key: str | None) -> None:
        self._options = options
        self._target = Target("the guidance service", options.base_url, key, options.api_key_env)
        self._calls = HttpCalls(options, self._target)
        self._uploads: WeakKeyDictionary[asyncio.AbstractEventLoop, Uploads] = WeakKeyDictionary()

    async def generate(self, request: Request) -> Generation:
        return await self._calls.whole(self._begin(request), self._attempt_whole)

    async def stream(self, request: Request) -> AsyncIterator[Piece]:
        """See `Backend.stream`. Failures before the first piece of text are retried, later ones are raised."""
        async with aclosing(self._calls.streamed(self._begin(request), self._attempt)) as pieces:
            async for piece in pieces:
                yield piece

    async def capabilities(self) -> Capabilities:
        return Capabilities(images=self._options.max_images, detail=self._options.base_url)

    async def aclose(self) -> None:
        await self._calls.aclose()

    def _begin(self, request: Request) -> ServiceCall:
        check_pictures(request, self._options.max_images, self._options.model)
        return ServiceCall(request, request.images)

    # --- one attempt ---

    async def _attempt_whole(self, call: ServiceCall) -> Generation:
        async with aclosing(self._attempt(call)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Generation):
                    return piece
        raise AssertionError("an attempt ends with the reply or an error")

    async def _attempt(self, call: ServiceCall) -> AsyncGenerator[Piece, None]:
        task = self._task(call.request)
        async with self._calls.slot(call):
            reply = await self._send(call, task)
            try:
                async with aclosing(self._calls.events(reply, _MOST_BYTES)) as events:
                    while isinstance(data := await self._in_time(call, anext(events, _END)), bytes):
                        event = self._read(data)
                        self._keep_time(call, event)
                        match event:
                            case Queued():
                                yield QueuePlace(event.ahead)
                            case Started():
                                yield QueuePlace(None)
                            case TextDelta():
                                call.begin_reply(asyncio.get_running_loop().time())
                                yield event.text
                            case StreamFailed():
                                raise self._failure(event.error)
                            case ReplyDone():
                                await reply.drain()
                                yield self._generation(call, task, event.reply)
                                return
            finally:
                call.begin(asyncio.get_running_loop().time())  # if it broke off in the queue
                reply.close()
        raise BadReply(f"the stream of {self._target.label} ended before it was finished")

    async def _in_time(self, call: ServiceCall, waiting: Awaitable[object]) -> object:
        try:
            return await self._calls.in_time(call, waiting)
        except TimedOut:
            if call.queued_since is None:
                raise
        within = self._options.queue_timeout
        error = TimedOut(
            f"{self._target.label}: the call waited for {within:g} s in its queue",
            hint="ask fewer questions at the same time, or raise queue_timeout",
        )
        error.retryable = False  # a retry would wait as long again
        raise error

    def _task(self, request: Request) -> Task:
        try:
            return of_messages(request.messages)
        except ValueError:
            raise InputError(
                f"{self._target.label} accepts no prompts", hint='use backend = "colm" for the server of a team only'
            ) from None

    async def _send(self, call: ServiceCall, task: Task) -> HttpReply:
        """Upload the pictures that the service does not have, and send the request. Dropped pictures are uploaded
        again."""
        loop = asyncio.get_running_loop()
        uploads = self._uploads.get(loop) or self._uploads.setdefault(
            loop, Uploads(self._calls, self._options.max_pixels)
        )
        try:
            try:
                return await self._post(call, task, await uploads.upload(call, call.images))
            except StatusFailure as failure:
                if failure.error.code != MISSING_PICTURE:
                    raise
            uploads.forget(call.images)
            return await self._post(call, task, await uploads.upload(call, call.images))
        except StatusFailure as failure:
            raise self._of_status(call, failure.error) from None

    async def _post(self, call: ServiceCall, task: Task, pictures: tuple[str, ...]) -> HttpReply:
        fields = task.model_dump(mode="json", exclude_defaults=True)
        body = json.dumps({**fields, "pictures": pictures, "stream": True}, ensure_ascii=False).encode()
        call.attempts += 1
        call.body_bytes = len(body)
        http, timed = self._calls.session().http, call.deadline is not None
        sending = self._calls.convert_errors(http.post(f"/v1/{task.task}", body, stream=True, timed=timed))
        reply = await self._calls.in_time(call, sending)
        if not 200 <= reply.status < 300:
            raise StatusFailure(await self._calls.in_time(call, self._calls.status_error(reply)))
        if not reply.is_event_stream:
            reply.close()
            raise BadReply(f"the reply of {self._target.label} is not a stream of events", hint="check base_url")
        return reply

    def _read(self, data: bytes) -> Queued | Started | TextDelta | ReplyDone | StreamFailed:
        try:
            event: Queued | Started | TextDelta | ReplyDone | StreamFailed = _event.validate_json(data)
        except ValidationError:
            raise BadReply(f"the stream of {self._target.label} is garbled") from None
        return event

    def _keep_time(self, call: ServiceCall, event: object) -> None:
        now = asyncio.get_running_loop().time()
        if isinstance(event, Queued):
            call.queue(now, self._options.queue_timeout)
        elif isinstance(event, Started):
            call.begin(now)

    def _generation(self, call: ServiceCall, task: Task, reply: dict[str, Any]) -> Generation:
        try:
            read: Reply = task.Reply.model_validate(reply)
        except ValidationError:
            raise BadReply(
                f"the reply of {self._target.label} does not follow the protocol of guidance services"
            ) from None
        assert call.started is not None
        now = asyncio.get_running_loop().time()
        return Generation(
            text=read.text,
            usage=read.usage,
            sent=Sent(bytes=call.body_bytes) + call.uploaded,
            seconds=now - call.started,
            attempts=call.attempts,
            reading=read.model_dump(mode="json", exclude={"text", "usage"}, exclude_defaults=True),
            timing=call.timing(now),
        )

    # --- failures ---

    def _of_status(self, call: ServiceCall, error: StatusError) -> BackendError:
        call.asked_wait = retry_after(error.headers)
        if error.type not in BACKEND_ERRORS:
            return of_status(error, self._target)
        body = StreamError(message=error.said, type=error.type, hint=error.hint, retry_after=call.asked_wait)
        return self._failure(body, error.status)

    def _failure(self, error: StreamError, status: int | None = None) -> BackendError:
        kind = BACKEND_ERRORS.get(error.type, BackendError)
        message, hint = (self._target.scrub(text) for text in (error.message, error.hint))
        message = f"{self._target.label}: {message}"
        if issubclass(kind, RateLimited):
            return kind(message, hint=hint, status=status, retry_after=error.retry_after)
        return kind(message, hint=hint, status=status)
