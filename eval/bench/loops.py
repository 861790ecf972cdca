"""Plain loops over endpoints, for comparison: they use nothing of this project except its prompts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Protocol, Self

import aiohttp
from typing_extensions import override

from colm_vl import Query, prompts
from colm_vl.errors import MissingPackage


class _Client(Protocol):
    async def ask(self, number: int) -> str: ...

    async def aclose(self) -> None: ...


class _Loop:
    """Calls the endpoints in turn, on its own event loop."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = urls
        self._runner = asyncio.Runner()

    async def _connect(self, urls: Sequence[str]) -> _Client:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._client = self._runner.run(self._connect(self._urls))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._runner.run(self._client.aclose())
        self._runner.close()

    def ask(self, count: int, *, at_once: int) -> None:
        self._runner.run(self._ask(count, at_once))

    def ask_in_a_row(self, count: int) -> None:
        self.ask(count, at_once=1)

    async def _ask(self, count: int, at_once: int) -> None:
        numbers = iter(range(count))

        async def work() -> None:
            for number in numbers:
                assert await self._client.ask(number)

        await asyncio.gather(*(work() for _ in range(at_once)))


class PlainLoop(_Loop):
    """Uses only aiohttp and `json`."""

    @override
    async def _connect(self, urls: Sequence[str]) -> _Client:
        return _Plain(urls)


class SdkLoop(_Loop):
    """Uses the openai SDK over aiohttp, its faster transport."""

    @override
    async def _connect(self, urls: Sequence[str]) -> _Client:
        return _Sdk(urls)


class _Plain:
    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = [f"{url}/chat/completions" for url in urls]
        self._body = _body()
        self._session = aiohttp.ClientSession()

    async def ask(self, number: int) -> str:
        async with self._session.post(self._urls[number % len(self._urls)], json=self._body) as response:
            return str(json.loads(await response.read())["choices"][0]["message"]["content"])

    async def aclose(self) -> None:
        await self._session.close()


class _Sdk:
    def __init__(self, urls: Sequence[str]) -> None:
        try:
            import openai
        except ImportError:
            raise MissingPackage("package 'openai' is not installed", hint="pip install 'openai[aiohttp]'") from None
        self._body: dict[str, Any] = _body()
        self._clients = [
            openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0, http_client=openai.DefaultAioHttpClient())
            for url in urls
        ]

    async def ask(self, number: int) -> str:
        completion = await self._clients[number % len(self._clients)].chat.completions.create(**self._body)
        return str(completion.choices[0].message.content)

    async def aclose(self) -> None:
        for client in self._clients:
            await client.close()


def _body() -> dict[str, object]:
    messages = prompts.draft_messages(Query("How many dots are there in picture 1?"), "counting")
    turns = [{"role": message.role, "content": message.text} for message in messages]
    return {"model": "stub", "messages": turns, "max_tokens": 512, "temperature": 0, "logprobs": True}
