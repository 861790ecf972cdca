"""Client for OpenAI-compatible endpoints, which adapts to what they support. `_http_calls.py` makes the calls.

`Sent` counts one attempt; `attempts` is their number.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NoReturn

from colm_vl.backends._common import check_pictures, images_sent
from colm_vl.backends._hedging import Hedging
from colm_vl.backends._http import HttpReply
from colm_vl.backends._http_call import Call
from colm_vl.backends._http_calls import MAX_ERROR_BYTES, HttpCalls
from colm_vl.backends._http_endpoint import Endpoint
from colm_vl.backends._http_errors import StatusError, Target, of_status, refused_parameter, retry_after
from colm_vl.backends._openai_media import KeptPictures, Named
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
from processors.images import Image

if TYPE_CHECKING:
    from colm_vl.backends.openai import Options

MODELS_TIMEOUT = 10.0
_MAX_MODELS_BYTES = 4 << 20
_END: Final = object()


@dataclass(slots=True)
class _ChatCall(Call):
    """`plain`: `Request.plain` is sent, because the endpoint does not support schemas. `names` are those of pictures
    that the endpoint keeps."""

    plain: bool = False
    names: Mapping[Image, Named] = field(default_factory=dict)


class OpenAIBackend:
    """A model at an endpoint. Each event loop in which it is used has its own connections."""

    def __init__(self, options: Options, key: str | None) -> None:
        self._options = options
        self._target = Target(repr(options.model), options.base_url, key, options.api_key_env)
        self._calls = HttpCalls(options, self._target)
        self._hedging = Hedging() if options.hedge else None
        self._kept = KeptPictures() if options.engine == "vllm" else None

    async def generate(self, request: Request) -> Generation:
        async def ask() -> Generation:
            return await self._calls.whole(self._begin(request), self._attempt)

        return await self._hedging.first(request.stage, ask) if self._hedging else await ask()

    async def stream(self, request: Request) -> AsyncIterator[str | Generation]:
        """See `Backend.stream`. Failures before the first piece are retried, later ones are raised."""
        async with aclosing(self._calls.streamed(self._begin(request), self._attempt_stream)) as pieces:
            async for piece in pieces:
                yield piece

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
            logprobs=self._endpoint.gives_logprobs.get(options.model),
            context=options.context or (listed.context if listed else None),
            detail=detail,
        )

    async def aclose(self) -> None:
        await self._calls.aclose()

    # --- one attempt ---

    def _begin(self, request: Request) -> _ChatCall:
        check_pictures(request, self._options.max_images, self._options.model)
        return _ChatCall(request, request.images)

    async def _attempt(self, call: _ChatCall) -> Generation:
        messages = await self._messages(call)
        async with self._calls.slot(call):
            body = await self._calls.in_time(call, self._exchange(call, messages))
        request = call.request
        reader = ReplyReader(self._target, request.sampling.max_tokens, streamed=False, letters=request.letters)
        reader.add(parse_completion(body, self._target))
        return self._generation(call, reader)

    async def _attempt_stream(self, call: _ChatCall) -> AsyncGenerator[str | Generation, None]:
        max_tokens, clock = call.request.sampling.max_tokens, asyncio.get_running_loop().time
        messages = await self._messages(call)
        async with self._calls.slot(call):
            reply = await self._calls.in_time(call, self._send(call, messages, stream=True))
            try:
                letters = call.request.letters
                reader = ReplyReader(self._target, max_tokens, streamed=reply.is_event_stream, letters=letters)
                async with aclosing(self._chunks(reply, max_tokens)) as chunks:
                    # The timeout applies to waiting for the endpoint, not to what the caller does between two pieces.
                    while (chunk := await self._calls.in_time(call, anext(chunks, _END))) is not _END:
                        piece = reader.add(chunk)
                        if reader.begun and reply.is_event_stream:
                            call.begin_reply(clock())
                        if piece:
                            yield piece
            finally:
                reply.close()
        yield self._generation(call, reader)

    async def _messages(self, call: _ChatCall) -> list[bytes]:
        options, request = self._options, call.request
        call.plain = self._must_be_plain(call)
        if call.plain and request.plain is None:
            raise self._no_schema()
        messages = request.plain if call.plain and request.plain else request.messages
        if self._kept is not None:
            call.names = self._kept.names(request, options.max_pixels)

        def encode() -> list[bytes]:
            return encode_messages(messages, max_pixels=options.max_pixels, detail=options.detail, names=call.names)

        if all(image.has_data_uri(options.max_pixels) for image in self._sent(call)):
            return encode()
        return await asyncio.to_thread(encode)  # so that the event loop is not blocked

    def _sent(self, call: _ChatCall) -> Sequence[Image]:
        """The pictures whose bytes are sent."""
        return [image for image in call.images if image not in call.names or not call.names[image].kept]

    def _must_be_plain(self, call: _ChatCall) -> bool:
        refused = self._endpoint.refused[self._options.model]
        return call.request.schema is not None and "response_format" in refused

    def _no_schema(self) -> Unsupported:
        return Unsupported(
            f"{self._target.label} takes no response_format with a JSON schema",
            hint='set reply_format = "auto" or "lines"',
        )

    async def _exchange(self, call: _ChatCall, messages: list[bytes]) -> bytes:
        reply = await self._send(call, messages, stream=False)
        try:
            return await self._calls.convert_errors(
                reply.read(most_bytes(call.request.sampling.max_tokens, stream=False))
            )
        finally:
            reply.close()

    async def _send(self, call: _ChatCall, messages: list[bytes], *, stream: bool) -> HttpReply:
        """Send the request, leaving out parameters that the endpoint refuses, until one is accepted."""
        session = self._calls.session()
        model = self._options.model
        timed = call.deadline is not None
        while True:
            if self._must_be_plain(call) != call.plain:  # learnt since, from this call or from another
                messages = await self._messages(call)
            settings = parameters(call.request, stream=stream, refused=self._endpoint.refused[model])
            body = encode_body(messages, {"model": model, "stream": stream, **settings, **self._options.extra_body})
            call.attempts += 1
            call.body_bytes = len(body)
            reply = await self._calls.convert_errors(
                session.http.post("/chat/completions", body, stream=stream, timed=timed)
            )
            if 200 <= reply.status < 300:
                return reply
            failure = await self._calls.status_error(reply, most=MAX_ERROR_BYTES + len(body))
            if self._kept is not None and self._kept.lacks(call.names.values(), failure):
                messages = await self._messages(call)
            elif not self._learn(failure, [name for name in DISPENSABLE if name in settings]):
                await self._raise_status(call, failure)

    def _learn(self, failure: StatusError, sent: Collection[str]) -> bool:
        """Whether the endpoint refused a parameter that can be left out. If so, it is left out from now on."""
        parameter = refused_parameter(failure, sent)
        if parameter is None:
            return False
        endpoint = self._endpoint
        if parameter == "logprobs":
            endpoint.learn_logprobs(self._options.model, given=False)
        else:
            endpoint.learn_refusal(self._options.model, parameter)
        return True

    async def _raise_status(self, call: _ChatCall, failure: StatusError) -> NoReturn:
        call.asked_wait = retry_after(failure.headers)
        error = of_status(failure, self._target)
        if isinstance(error, ModelNotFound):
            await self._name_models(error)
        raise error

    async def _chunks(self, reply: HttpReply, max_tokens: int) -> AsyncGenerator[object, None]:
        """The events of the stream, or the single body of an endpoint that does not stream."""
        if not reply.is_event_stream:
            body = await self._calls.convert_errors(reply.read(most_bytes(max_tokens, stream=False)))
            yield parse_completion(body, self._target)
            return
        async with aclosing(self._calls.events(reply, most_bytes(max_tokens, stream=True))) as events:
            async for data in events:
                if data.strip() == b"[DONE]":
                    await reply.drain()
                    return
                yield parse_chunk(data, self._target)

    def _generation(self, call: _ChatCall, reader: ReplyReader) -> Generation:
        reader.check_complete()
        if self._kept is not None:
            self._kept.learn(call.names.values())
        endpoint = self._endpoint
        known = endpoint.gives_logprobs.get(self._options.model)
        if reader.text and "logprobs" not in endpoint.refused[self._options.model] and not known:
            endpoint.learn_logprobs(self._options.model, given=reader.logprobs is not None)
        assert call.started is not None
        now = asyncio.get_running_loop().time()
        return Generation(
            text=reader.text,
            finish_reason=reader.finish_reason or "stop",
            usage=reader.usage,
            sent=Sent(bytes=call.body_bytes) + images_sent(self._sent(call), self._options.max_pixels),
            logprobs=reader.logprobs,
            seconds=now - call.started,
            attempts=call.attempts,
            plain=call.plain,
            timing=call.timing(now, reader.computed),
        )

    # --- the endpoint ---

    @property
    def _endpoint(self) -> Endpoint:
        return self._calls.session().endpoint

    async def _models(self) -> ModelList:
        try:
            async with asyncio.timeout(MODELS_TIMEOUT):
                reply = await self._calls.convert_errors(self._calls.session().http.get("/models"))
                if not 200 <= reply.status < 300:
                    raise of_status(await self._calls.status_error(reply), self._target)
                try:
                    body = await self._calls.convert_errors(reply.read(_MAX_MODELS_BYTES))
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
