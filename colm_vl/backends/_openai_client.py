"""Client for OpenAI-compatible endpoints: concurrency limits, timeouts, retries, and adapting to what they support.

The timeout of a request starts when it is first sent. It includes retries and the waits between them, but not the time
in the queue of the endpoint. No slot is held between two attempts. `Retry-After` is respected up to MAX_ASKED_WAIT.
`Sent` counts one attempt; `attempts` is their number.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Collection
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar
from urllib.parse import urlsplit
from weakref import WeakSet

from colm_vl.backends._common import check_pictures, images_sent
from colm_vl.backends._openai_call import Call, InPlace
from colm_vl.backends._openai_endpoint import Endpoint
from colm_vl.backends._openai_errors import StatusError, Target, of_failure, of_status, refused_parameter, retry_after
from colm_vl.backends._openai_events import EventReader
from colm_vl.backends._openai_http import FAILURES, HttpReply, HttpSession, TooLarge, UnusableProxy
from colm_vl.backends._openai_reply import ModelList, ReplyReader, most_bytes, parse_chunk, parse_completion
from colm_vl.backends._openai_request import DISPENSABLE, encode_body, encode_messages, parameters
from colm_vl.backends.base import Capabilities, Generation, Request
from colm_vl.errors import (
    BackendError,
    ModelNotFound,
    Refused,
    TimedOut,
    Unreachable,
    Unsupported,
)
from colm_vl.types import Sent

if TYPE_CHECKING:
    from colm_vl.backends.openai import Options

MAX_DELAY = 8.0
MAX_ASKED_WAIT = 60.0
MODELS_TIMEOUT = 10.0
_MAX_MODELS_BYTES = 4 << 20
_MAX_ERROR_BYTES = 1 << 20
_END: Final = object()

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Session:
    """Objects that belong to one event loop."""

    http: HttpSession
    endpoint: Endpoint


class OpenAIBackend:
    """A model at an endpoint. Each event loop in which it is used has its own connections."""

    def __init__(self, options: Options, key: str | None) -> None:
        self._options = options
        self._target = Target(options.model, options.base_url, key, options.api_key_env)
        self._sessions: dict[asyncio.AbstractEventLoop, _Session] = {}
        self._closed_in: WeakSet[asyncio.AbstractEventLoop] = WeakSet()

    async def generate(self, request: Request) -> Generation:
        call = self._begin(request)
        while True:
            try:
                return await self._attempt(call)
            except BackendError as error:
                failure = error
            await self._back_off(call, failure)

    async def stream(self, request: Request) -> AsyncIterator[str | Generation]:
        """See `Backend.stream`. Failures before the first piece are retried, later ones are raised."""
        call = self._begin(request)
        begun = False
        while True:
            try:
                async with aclosing(self._attempt_stream(call)) as pieces:
                    async for piece in pieces:
                        begun = True
                        yield piece
                return
            except BackendError as error:
                if begun:
                    raise
                failure = error
            await self._back_off(call, failure)

    async def capabilities(self) -> Capabilities:
        """Requests the list of models, which is free of charge. It is no error if the endpoint does not have one."""
        options = self._options
        listed = None
        try:
            listed = await self._models()
        except (Unreachable, TimedOut, Refused):
            raise
        except BackendError:
            pass
        detail = options.base_url
        if listed and options.model not in listed.names:
            detail += f" (not among its {len(listed.names)} listed models)"
        return Capabilities(
            images=options.max_images,
            logprobs=self._session().endpoint.gives_logprobs.get(options.model),
            context=options.context or (listed.context if listed else None),
            detail=detail,
        )

    async def aclose(self) -> None:
        loop = asyncio.get_running_loop()
        self._closed_in.add(loop)
        session = self._sessions.pop(loop, None)
        if session is not None:
            await session.http.aclose()

    # --- one attempt ---

    def _begin(self, request: Request) -> Call:
        check_pictures(request, self._options.max_images, self._options.model)
        return Call(request, request.images)

    async def _attempt(self, call: Call) -> Generation:
        messages = await self._messages(call)
        async with InPlace(call, self._session().endpoint, self._target, self._options.queue_timeout):
            body = await self._in_time(call, self._exchange(call, messages))
        request = call.request
        reader = ReplyReader(self._target, request.sampling.max_tokens, streamed=False, letters=request.letters)
        reader.add(parse_completion(body, self._target))
        return self._generation(call, reader)

    async def _attempt_stream(self, call: Call) -> AsyncGenerator[str | Generation, None]:
        max_tokens = call.request.sampling.max_tokens
        messages = await self._messages(call)
        async with InPlace(call, self._session().endpoint, self._target, self._options.queue_timeout):
            reply = await self._in_time(call, self._send(call, messages, stream=True))
            try:
                letters = call.request.letters
                reader = ReplyReader(self._target, max_tokens, streamed=reply.is_event_stream, letters=letters)
                async with aclosing(self._chunks(reply, max_tokens)) as chunks:
                    # The timeout applies to waiting for the endpoint, not to what the caller does between two pieces.
                    while (chunk := await self._in_time(call, anext(chunks, _END))) is not _END:
                        if piece := reader.add(chunk):
                            yield piece
            finally:
                reply.close()
        yield self._generation(call, reader)

    async def _messages(self, call: Call) -> list[bytes]:
        options, request = self._options, call.request
        call.plain = self._must_be_plain(call)
        if call.plain and request.plain is None:
            raise self._no_schema()
        messages = request.plain if call.plain and request.plain else request.messages

        def encode() -> list[bytes]:
            return encode_messages(messages, max_pixels=options.max_pixels, detail=options.detail)

        if not call.images or all(image.has_data_uri(options.max_pixels) for image in call.images):
            return encode()
        return await asyncio.to_thread(encode)  # so that the event loop is not blocked

    def _must_be_plain(self, call: Call) -> bool:
        refused = self._session().endpoint.refused[self._options.model]
        return call.request.schema is not None and "response_format" in refused

    def _no_schema(self) -> Unsupported:
        return Unsupported(
            f"{self._target.label} takes no response_format with a JSON schema",
            hint='set reply_format = "auto" or "lines"',
        )

    async def _in_time(self, call: Call, waiting: Awaitable[_T]) -> _T:
        try:
            async with asyncio.timeout_at(call.deadline):
                return await waiting
        except TimeoutError:
            limit = call.request.timeout
            raise TimedOut(
                f"{self._target.label} did not answer within {limit:g} s",
                hint="raise the stage's timeout (policy.timeouts), or ask for less",
                limit=limit,
            ) from None

    async def _told(self, waiting: Awaitable[_T]) -> _T:
        """Await a step of the transport, and convert its failures to errors of `colm_vl`."""
        try:
            return await waiting
        except FAILURES as error:
            failure = of_failure(error, self._target)
        # Raised outside of `except`, because aiohttp's errors reference the request with the key and the pictures.
        raise failure

    async def _exchange(self, call: Call, messages: list[bytes]) -> bytes:
        reply = await self._send(call, messages, stream=False)
        try:
            return await self._told(reply.read(most_bytes(call.request.sampling.max_tokens, stream=False)))
        finally:
            reply.close()

    async def _send(self, call: Call, messages: list[bytes], *, stream: bool) -> HttpReply:
        """Send the request, leaving out parameters that the endpoint refuses, until one is accepted."""
        session = self._session()
        model = self._options.model
        timed = call.deadline is not None
        while True:
            if self._must_be_plain(call) != call.plain:  # learnt since, from this call or from another
                messages = await self._messages(call)
            settings = parameters(call.request, stream=stream, refused=session.endpoint.refused[model])
            body = encode_body(messages, {"model": model, "stream": stream, **settings, **self._options.extra_body})
            call.attempts += 1
            call.body_bytes = len(body)
            reply = await self._told(session.http.post("/chat/completions", body, stream=stream, timed=timed))
            if 200 <= reply.status < 300:
                return reply
            failure = await self._status_error(reply, most=_MAX_ERROR_BYTES + len(body))
            if not self._learn(failure, [name for name in DISPENSABLE if name in settings]):
                await self._raise_status(call, failure)

    async def _status_error(self, reply: HttpReply, *, most: int) -> StatusError:
        """Reads at most `most` bytes, enough for endpoints that repeat the whole request in their error."""
        try:
            body = await self._told(_read_or_nothing(reply, most))
        finally:
            reply.close()
        return StatusError.of(reply.status, reply.headers, body)

    def _learn(self, failure: StatusError, sent: Collection[str]) -> bool:
        """Whether the endpoint refused a parameter that can be left out. If so, it is left out from now on."""
        parameter = refused_parameter(failure, sent)
        if parameter is None:
            return False
        endpoint = self._session().endpoint
        if parameter == "logprobs":
            endpoint.learn_logprobs(self._options.model, given=False)
        else:
            endpoint.learn_refusal(self._options.model, parameter)
        return True

    async def _raise_status(self, call: Call, failure: StatusError) -> NoReturn:
        call.asked_wait = retry_after(failure.headers)
        error = of_status(failure, self._target)
        if isinstance(error, ModelNotFound):
            await self._name_models(error)
        raise error

    async def _chunks(self, reply: HttpReply, max_tokens: int) -> AsyncGenerator[object, None]:
        """The events of the stream, or the single body of an endpoint that does not stream."""
        if not reply.is_event_stream:
            body = await self._told(reply.read(most_bytes(max_tokens, stream=False)))
            yield parse_completion(body, self._target)
            return
        events = EventReader()
        async with aclosing(reply.pieces(most_bytes(max_tokens, stream=True))) as pieces:
            while piece := await self._told(anext(pieces, b"")):
                try:
                    found = events.feed(piece)
                except TooLarge as error:
                    raise of_failure(error, self._target) from None
                for data in found:
                    if data.strip() == b"[DONE]":
                        await reply.drain()
                        return
                    yield parse_chunk(data, self._target)

    def _generation(self, call: Call, reader: ReplyReader) -> Generation:
        reader.check_complete()
        endpoint = self._session().endpoint
        known = endpoint.gives_logprobs.get(self._options.model)
        if "logprobs" not in endpoint.refused[self._options.model] and not known:
            endpoint.learn_logprobs(self._options.model, given=reader.logprobs is not None)
        assert call.started is not None
        return Generation(
            text=reader.text,
            finish_reason=reader.finish_reason or "stop",
            usage=reader.usage,
            sent=Sent(bytes=call.body_bytes) + images_sent(call.request, self._options.max_pixels),
            logprobs=reader.logprobs,
            seconds=asyncio.get_running_loop().time() - call.started,
            attempts=call.attempts,
            plain=call.plain,
        )

    # --- between two attempts ---

    async def _back_off(self, call: Call, error: BackendError) -> None:
        """Sleep until the next attempt. Raises `error` if there are no retries left, or no time for one."""
        asked, call.asked_wait = call.asked_wait or 0.0, None
        crowded, call.crowded = call.crowded, False
        most = self._options.max_retries
        if not error.retryable or asked > MAX_ASKED_WAIT or call.retries >= most + (crowded and most > 0):
            raise error
        usual = min(MAX_DELAY, self._options.retry_delay * 2**call.retries)
        delay = max(usual * random.uniform(0.5, 1.0), asked * random.uniform(1.0, 1.1))
        if call.deadline is not None and asyncio.get_running_loop().time() + delay >= call.deadline:
            raise error
        # Refusals because of too many concurrent requests do not count as retries: their number has been reduced.
        call.retries += not crowded
        await asyncio.sleep(delay)

    # --- the endpoint ---

    def _session(self) -> _Session:
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None:
            if loop in self._closed_in:  # a call that broke off because of it is not to be sent again
                raise BackendError(f"{self._target.label} was closed")
            for ended in [other for other in self._sessions if other.is_closed()]:
                del self._sessions[ended]
            options = self._options
            endpoint = Endpoint.shared(options.base_url, options.max_concurrency)
            session = self._sessions[loop] = _Session(self._connect(), endpoint)
        return session

    def _connect(self) -> HttpSession:
        options = self._options
        try:
            return HttpSession(options.base_url, self._target.key or "none", timeout_connect=options.timeout_connect)
        except UnusableProxy as error:
            raise BackendError(
                f"{self._target.label} cannot be called: the environment names {error}",
                hint="check the proxies in the environment (HTTPS_PROXY, …): set an HTTP proxy, or add "
                f"{urlsplit(options.base_url).hostname} to NO_PROXY",
            ) from None

    async def _models(self) -> ModelList:
        try:
            async with asyncio.timeout(MODELS_TIMEOUT):
                reply = await self._told(self._session().http.get("/models"))
                if not 200 <= reply.status < 300:
                    raise of_status(await self._status_error(reply, most=_MAX_ERROR_BYTES), self._target)
                try:
                    body = await self._told(reply.read(_MAX_MODELS_BYTES))
                finally:
                    reply.close()
        except TimeoutError:
            raise TimedOut(f"{self._target.label} did not list its models within {MODELS_TIMEOUT:g} s") from None
        return ModelList.of(parse_completion(body, self._target), self._options.model)

    async def _name_models(self, error: ModelNotFound) -> None:
        """Add the available models to the hint, if the endpoint lists them."""
        try:
            names = (await self._models()).names
        except BackendError:
            return
        if names and self._options.model not in names:
            more = f" and {len(names) - 10} more" if len(names) > 10 else ""
            error.hint = f"set model to one of: {self._target.scrub(', '.join(names[:10]))}{more}"


async def _read_or_nothing(reply: HttpReply, most: int) -> bytes:
    try:
        return await reply.read(most)
    except TooLarge:
        return b""
