"""Makes one https request to a host whose addresses were checked and pinned, with a deadline."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from typing_extensions import override
from yarl import URL

from processors.errors import ImageError
from processors.fetching import FetchPolicy, Network

_RETRY = "try again later, or download the picture and pass its path"
_LOCAL = "download the picture and pass its path"
_HANG_UP_SECONDS = 1.0
_HEADERS = {
    "User-Agent": "colm-vl",
    "Accept": "image/*",
    # A compressed body could unpack to any size, and pictures are already compressed.
    "Accept-Encoding": "identity",
    "Connection": "close",
}


class Answer(NamedTuple):
    """A response: its body, or the location of a redirect."""

    data: bytes
    location: str | None


def get(host: str, target: str, place: str, policy: FetchPolicy, network: Network, deadline: float) -> Answer:
    """GET https://{host}{target}. `host` can include a port; `place` is the URL for messages. Raises `ImageError`."""
    name, _, port = host.partition(":")
    addresses = _checked_addresses(name, int(port or 443), place, network)
    path, _, query = target.partition("?")
    url = URL.build(
        scheme="https", host=name, port=int(port) if port else None, path=path, query_string=query, encoded=True
    )
    return _run(_get(url, addresses, place, policy, network.tls(), deadline))


def _checked_addresses(name: str, port: int, place: str, network: Network) -> Sequence[str]:
    """The addresses of a host, resolved only once, because a second lookup could give other addresses."""
    try:
        addresses = network.resolve(name, port)
    except (OSError, UnicodeError, OverflowError):  # unknown or impossible host names
        raise ImageError(
            f"the picture at {place} is on a host that cannot be found",
            hint="check its name and the network",
            retryable=True,
        ) from None
    # All addresses must be public: one private address among public ones may be an attack.
    if not addresses or not all(network.is_public(address) for address in addresses):
        raise ImageError(
            f"the picture at {place} is on a host with a private address, which is not allowed", hint=_LOCAL
        )
    return addresses


async def _get(
    url: URL, addresses: Sequence[str], place: str, policy: FetchPolicy, tls: ssl.SSLContext, deadline: float
) -> Answer:
    sockets = _Sockets(addresses)
    connector = aiohttp.TCPConnector(ssl=tls, resolver=_Pinned(addresses), socket_factory=sockets, force_close=True)
    try:
        async with (
            asyncio.timeout(deadline - time.monotonic()),
            aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            ) as session,
            session.get(url, headers=_HEADERS, allow_redirects=False) as response,
        ):
            return await _read(response, place, policy)
    except TimeoutError:
        raise ImageError(
            f"the picture at {place} was not received within {policy.timeout:g} s", hint=_RETRY, retryable=True
        ) from None
    except aiohttp.ClientConnectorCertificateError:
        raise ImageError(f"the picture at {place} is on a host without a valid certificate", hint=_LOCAL) from None
    except (aiohttp.ClientError, OSError):
        raise ImageError(
            f"the picture at {place} cannot be fetched: the connection failed", hint=_RETRY, retryable=True
        ) from None
    finally:
        await sockets.hang_up()


async def _read(response: aiohttp.ClientResponse, place: str, policy: FetchPolicy) -> Answer:
    headers = response.headers
    if response.status in {301, 302, 303, 307, 308} and "Location" in headers:
        return Answer(b"", headers["Location"])
    if response.status != 200:
        retryable = response.status == 429 or response.status >= 500
        raise ImageError(
            f"the picture at {place} cannot be fetched: its host answered {response.status}",
            hint=_RETRY if retryable else "check the URL, and whether it needs a login",
            retryable=retryable,
        )
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ImageError(f"the picture at {place} was sent compressed, which is not supported", hint=_LOCAL)
    too_large = ImageError(
        f"the picture at {place} has more than the allowed {policy.max_bytes:,} bytes",
        hint="raise the policy's max_bytes",
    )
    if (response.content_length or 0) > policy.max_bytes:
        raise too_large
    data = bytearray()
    async for part in response.content.iter_any():
        data += part
        if len(data) > policy.max_bytes:
            raise too_large
    return Answer(bytes(data), None)


class _Pinned(AbstractResolver):
    """Resolves every name to the checked addresses."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    @override
    async def close(self) -> None:
        """There is nothing to close."""


class _Sockets:
    """Creates the socket of every connection, also of those made without the resolver because the host is an IP
    address, and refuses other addresses."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses
        self._made: list[socket.socket] = []

    def __call__(self, address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, target = address
        if target[0] not in self._addresses:
            raise OSError("not one of the checked addresses")
        self._made.append(socket.socket(family, kind, protocol))
        return self._made[-1]

    async def hang_up(self) -> None:
        """Shut down connections that are still open. After an abort, TLS would wait for the other side's close
        notification longer than this event loop lives."""
        for made in self._made:
            with suppress(OSError):  # closed, or never connected
                made.shutdown(socket.SHUT_RDWR)
        with suppress(TimeoutError):
            async with asyncio.timeout(_HANG_UP_SECONDS):
                while any(made.fileno() >= 0 for made in self._made):  # noqa: ASYNC110 - sockets have no close event
                    await asyncio.sleep(0)


def _run(fetching: Coroutine[Any, Any, Answer]) -> Answer:
    """Run the coroutine in a new event loop; in a new thread if this thread already runs one."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(fetching)
    outcome: list[Answer | BaseException] = []

    def run() -> None:
        try:
            outcome.append(asyncio.run(fetching))
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join()
    (found,) = outcome
    if isinstance(found, BaseException):
        raise found
    return found
