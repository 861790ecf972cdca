"""Asking an OpenAI-compatible endpoint, through the `openai` SDK's async client.

Retries are ours, not the SDK's: they keep within the request's time-out, wait without holding a place at the endpoint,
and honour a `Retry-After` of any length up to MAX_ASKED_WAIT. `Sent` is the account of one attempt; `attempts` tells
how many there were.
"""

from __future__ import annotations

import asyncio
import json
import random
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2
import openai
from openai import APIError, APIStatusError, AsyncStream

from colm_vl.backends._common import check_pictures, pictures_sent
from colm_vl.backends._openai_endpoint import Endpoint
from colm_vl.backends._openai_errors import Place, broke_off, refused_parameter, retry_after, translate
from colm_vl.backends._openai_wire import DISPENSABLE, ReplyReader, messages_json, parameters
from colm_vl.backends.base import Capabilities, Generation, Request
from colm_vl.errors import BackendError, BadReply, ModelNotFound, Refused, TimedOut, Unreachable
from colm_vl.types import Sent

if TYPE_CHECKING:
    from colm_vl.backends.openai import Options

MAX_DELAY = 8.0
MAX_ASKED_WAIT = 60.0
MODELS_TIMEOUT = 10.0
_READ_TIMEOUT = 600.0
_END: Final = object()

# Said of every body above 1 MiB; the SDK hands pictures over as bytes whatever their size. Where warnings are errors it
# would fail the call.
warnings.filterwarnings("ignore", "Sending a large body", ResourceWarning, "aiohttp")


@dataclass(frozen=True, slots=True)
class _Session:
    """What is bound to one event loop."""

    loop: asyncio.AbstractEventLoop
    client: openai.AsyncOpenAI
    endpoint: Endpoint


@dataclass(slots=True)
class _Call:
    """A request under way. `deadline` is in the loop's time, `asked_wait` in seconds, as the last refusal said."""

    request: Request
    started: float
    deadline: float | None
    attempts: int = 0
    retries: int = 0
    asked_wait: float | None = None
    body_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Listed:
    """What /models tells: the models' names, and this model's context in tokens where it is given."""

    names: tuple[str, ...]
    context: int | None


@dataclass(frozen=True, slots=True)
class _Reply:
    """What an endpoint sent: all of it, or its head and the events to come."""

    response: httpx2.Response
    events: AsyncStream[object] | None = None


class OpenAIBackend:
    """A model at an endpoint. The connections belong to the event loop in which it is asked; in another loop it opens
    others."""

    def __init__(self, options: Options, key: str | None) -> None:
        self._options = options
        self._place = Place(options.model, options.base_url, key, options.api_key_env)
        self._opened: _Session | None = None

    async def generate(self, request: Request) -> Generation:
        call = self._begin(request)
        while True:
            try:
                async with asyncio.timeout_at(call.deadline):
                    return await self._attempt(call)
            except TimeoutError:
                self._raise_timed_out(call)
            except BackendError as error:
                failure = error
            await self._back_off(call, failure)

    async def stream(self, request: Request) -> AsyncIterator[str | Generation]:
        """As the protocol says. What fails before the first piece is tried again, what fails later is raised."""
        call = self._begin(request)
        begun = False
        while True:
            try:
                async with aclosing(self._attempt_stream(call)) as pieces:
                    async for piece in pieces:
                        begun = True
                        yield piece
                return
            except TimeoutError:
                self._raise_timed_out(call)
            except BackendError as error:
                if begun:
                    raise
                failure = error
            await self._back_off(call, failure)

    async def capabilities(self) -> Capabilities:
        """Asks for the list of models, which costs nothing; an endpoint that answers but has none is no failure."""
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
            pictures=options.max_images,
            logprobs=self._session().endpoint.gives_logprobs.get(options.model),
            context=options.context or (listed.context if listed else None),
            detail=detail,
        )

    async def aclose(self) -> None:
        session, self._opened = self._opened, None
        if session is not None and session.loop is asyncio.get_running_loop():
            await session.client.close()

    # --- one call ---

    def _begin(self, request: Request) -> _Call:
        check_pictures(request, self._options.max_images, self._options.model)
        now = asyncio.get_running_loop().time()
        return _Call(request, now, None if request.timeout is None else now + request.timeout)

    async def _attempt(self, call: _Call) -> Generation:
        messages = await self._messages(call)
        async with self._session().endpoint.place():
            reply = await self._send(call, messages, stream=False)
        reader = ReplyReader(self._place, call.request.sampling.max_tokens)
        reader.add(self._json(reply.response.text))
        return self._generation(call, reader, streamed=False)

    async def _attempt_stream(self, call: _Call) -> AsyncGenerator[str | Generation, None]:
        # The time-out is renewed around each wait of ours: what the caller does between two pieces is not ours to cut.
        reader = ReplyReader(self._place, call.request.sampling.max_tokens)
        async with AsyncExitStack() as stack:
            async with asyncio.timeout_at(call.deadline):
                messages = await self._messages(call)
                await stack.enter_async_context(self._session().endpoint.place())
                reply = await self._send(call, messages, stream=True)
                stack.push_async_callback(reply.response.aclose)
            chunks = await stack.enter_async_context(aclosing(self._chunks(reply)))
            while True:
                async with asyncio.timeout_at(call.deadline):
                    chunk = await anext(chunks, _END)
                if chunk is _END:
                    break
                if piece := reader.add(chunk):
                    yield piece
        yield self._generation(call, reader, streamed=True)

    async def _messages(self, call: _Call) -> list[dict[str, object]]:
        options = self._options

        def build() -> list[dict[str, object]]:
            return messages_json(call.request.messages, max_pixels=options.max_pixels, detail=options.detail)

        # Pictures are encoded here, at their first use; other calls go on meanwhile.
        return await asyncio.to_thread(build) if call.request.images else build()

    async def _send(self, call: _Call, messages: list[dict[str, object]], *, stream: bool) -> _Reply:
        session = self._session()
        model = self._options.model
        while True:
            settings = parameters(call.request.sampling, stream=stream, refused=session.endpoint.refused[model])
            call.attempts += 1
            body = {
                "model": model,
                "messages": messages,
                "stream": stream,
                **settings,
                **self._options.extra_body,
            }
            try:
                reply = await _post(session.client, body, stream=stream)
            except APIError as error:
                failure = error
            else:
                call.body_bytes = len(reply.response.request.content)
                return reply
            if not self._learn(failure, [name for name in DISPENSABLE if name in settings]):
                await self._raise_failure(call, failure)

    def _learn(self, failure: APIError, sent: Collection[str]) -> bool:
        """Whether the failure was about a parameter that can be left out; then it is, from now on."""
        parameter = refused_parameter(failure, sent) if isinstance(failure, APIStatusError) else None
        if parameter is None:
            return False
        endpoint = self._session().endpoint
        if parameter == "logprobs":
            endpoint.learn_logprobs(self._options.model, given=False)
        else:
            endpoint.learn_refusal(self._options.model, parameter)
        return True

    async def _raise_failure(self, call: _Call, failure: APIError) -> NoReturn:
        # Raised outside of `except`: the SDK's errors hold the request, with the key and the pictures.
        call.asked_wait = retry_after(failure.response.headers) if isinstance(failure, APIStatusError) else None
        error = translate(failure, self._place)
        if isinstance(error, ModelNotFound):
            await self._name_models(error)
        raise error

    async def _chunks(self, reply: _Reply) -> AsyncGenerator[object, None]:
        """The stream's events, or the one body of an endpoint that does not stream."""
        if reply.events is None or "event-stream" not in reply.response.headers.get("content-type", ""):
            yield self._json(await self._rest(reply.response))
            return
        events = aiter(reply.events)
        while True:
            try:
                event = await anext(events, _END)
            except Exception as error:
                failure = self._broken(error)
            else:
                if event is _END:
                    return
                yield event
                continue
            raise failure

    async def _rest(self, response: httpx2.Response) -> str:
        try:
            return (await response.aread()).decode(errors="replace")
        except Exception as error:
            failure = self._broken(error)
        raise failure

    def _broken(self, error: Exception) -> BackendError:
        """Our error for a reply that broke off. Old SDKs let errors of the HTTP library through; which library that is
        depends on their version."""
        if isinstance(error, APIError):
            return translate(error, self._place)
        if isinstance(error, ValueError):  # an event that is no JSON, or no UTF-8
            return BadReply(f"the stream of {self._place.label} is garbled")
        return broke_off(self._place)

    def _json(self, text: str) -> object:
        try:
            return json.loads(text)
        except ValueError:
            pass
        what = "a page of HTML" if text.lstrip().startswith("<") else "no JSON, or JSON that is cut off"
        raise BadReply(f"the reply of {self._place.label} is {what}", hint="check base_url: most end in /v1")

    def _generation(self, call: _Call, reader: ReplyReader, *, streamed: bool) -> Generation:
        reader.check_complete(streamed=streamed)
        endpoint = self._session().endpoint
        known = endpoint.gives_logprobs.get(self._options.model)
        if "logprobs" not in endpoint.refused[self._options.model] and not known:
            endpoint.learn_logprobs(self._options.model, given=reader.logprobs is not None)
        return Generation(
            text=reader.text,
            finish_reason=reader.finish_reason or "stop",
            usage=reader.usage,
            sent=Sent(bytes=call.body_bytes) + pictures_sent(call.request, self._options.max_pixels),
            logprobs=reader.logprobs,
            seconds=asyncio.get_running_loop().time() - call.started,
            attempts=call.attempts,
        )

    # --- waiting ---

    async def _back_off(self, call: _Call, error: BackendError) -> None:
        """Sleep until the next attempt; raise `error` if there shall be none, or none is possible in time."""
        asked, call.asked_wait = call.asked_wait or 0.0, None
        if not error.retryable or call.retries >= self._options.max_retries or asked > MAX_ASKED_WAIT:
            raise error
        usual = min(MAX_DELAY, self._options.retry_delay * 2**call.retries)
        delay = max(usual * random.uniform(0.5, 1.0), asked * random.uniform(1.0, 1.1))
        if call.deadline is not None and asyncio.get_running_loop().time() + delay >= call.deadline:
            raise error
        call.retries += 1
        await asyncio.sleep(delay)

    def _raise_timed_out(self, call: _Call) -> NoReturn:
        raise TimedOut(f"{self._place.label} did not answer within {call.request.timeout:g} s") from None

    # --- the endpoint ---

    def _session(self) -> _Session:
        loop = asyncio.get_running_loop()
        if self._opened is None or self._opened.loop is not loop:
            endpoint = Endpoint.shared(self._options.base_url, self._options.max_concurrency)
            self._opened = _Session(loop, self._client(), endpoint)
        return self._opened

    def _client(self) -> openai.AsyncOpenAI:
        self._refuse_socks()
        timeout = openai.Timeout(_READ_TIMEOUT, connect=self._options.timeout_connect)
        key = self._place.key or "none"
        try:
            client = openai.AsyncOpenAI(
                api_key=key,
                base_url=self._options.base_url,
                max_retries=0,
                timeout=timeout,
                # Or the SDK would let OPENAI_CUSTOM_HEADERS put another account's key in its place.
                default_headers={"Authorization": f"Bearer {key}"},
                # Through aiohttp a call takes a third less CPU time, of which many calls at once run short.
                # A redirect may lead to another host, which must get neither the key nor the pictures.
                http_client=openai.DefaultAioHttpClient(timeout=timeout, follow_redirects=False),
            )
        except Exception as error:  # whatever the HTTP library makes of base_url, proxies and certificates
            failure = BackendError(
                f"{self._place.label} cannot be called: {type(error).__name__} while setting up the connection",
                hint="check base_url, and what the environment says of proxies and certificates (HTTPS_PROXY, …)",
            )
        else:
            # The SDK takes these from the environment, for whichever endpoint.
            client.organization = client.project = None
            return client
        raise failure

    def _refuse_socks(self) -> None:
        """aiohttp would speak HTTP to such a proxy, the key included."""
        url = urlsplit(self._options.base_url)
        proxies = getproxies()
        proxy = proxies.get(url.scheme) or proxies.get("all", "")
        if proxy.startswith("socks") and not proxy_bypass(url.hostname or ""):
            raise BackendError(
                f"{self._place.label} cannot be called: the environment names a SOCKS proxy, which is not supported",
                hint=f"put {url.hostname} into NO_PROXY, or name an HTTP proxy in {url.scheme.upper()}_PROXY",
            )

    async def _models(self) -> _Listed:
        try:
            async with asyncio.timeout(MODELS_TIMEOUT):
                raw = await self._session().client.models.with_raw_response.list()
        except TimeoutError:
            raise TimedOut(f"{self._place.label} did not list its models within {MODELS_TIMEOUT:g} s") from None
        except APIError as error:
            failure = translate(error, self._place)
        else:
            return _listed(self._json(raw.text), self._options.model)
        raise failure

    async def _name_models(self, error: ModelNotFound) -> None:
        """Put the models that there are into the hint, if the endpoint tells."""
        try:
            names = (await self._models()).names
        except BackendError:
            return
        if names and self._options.model not in names:
            more = f" and {len(names) - 10} more" if len(names) > 10 else ""
            error.hint = f"set model to one of: {self._place.scrub(', '.join(names[:10]))}{more}"


async def _post(client: openai.AsyncOpenAI, body: dict[str, object], *, stream: bool) -> _Reply:
    """The SDK's own way to an endpoint whose parameters it shall not look into: those that it knows it walks through,
    to the last letter of every message, which takes a tenth of a call's time."""
    path = "/chat/completions"
    if not stream:
        return _Reply(await client.post(path, cast_to=httpx2.Response, body=body))
    events = await client.post(path, cast_to=object, body=body, stream=True, stream_cls=AsyncStream[object])
    return _Reply(events.response, events)


def _listed(body: object, model: str) -> _Listed:
    data = body.get("data") if isinstance(body, dict) else None
    entries = [entry for entry in data if isinstance(entry, dict)] if isinstance(data, list) else []
    context = None
    for entry in entries:
        sizes = (entry.get(name) for name in ("max_model_len", "context_length", "context_window"))
        if entry.get("id") == model:
            context = next((size for size in sizes if isinstance(size, int) and size > 0), None)
    return _Listed(tuple(str(entry["id"]) for entry in entries if entry.get("id")), context)
