"""An HTTP client for one endpoint, based on aiohttp: proxies, certificates, and replies of limited size.

Failures are raised as one of `FAILURES`, most of them aiohttp's own. `_http_errors.py` converts them to errors of
`colm_vl`.
"""

from __future__ import annotations

import asyncio
import base64
import io
import os
import ssl
import zlib
from collections.abc import AsyncGenerator, Iterator, Mapping
from functools import cache
from typing import Final
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from colm_vl import __version__

_READ_TIMEOUT = 600.0
_PIECE = 1 << 16
_LARGE_BODY = 1 << 20
_DRAIN_SECONDS = 0.1


class TooLarge(Exception):
    """A reply has more bytes than allowed."""


class UnusableEncoding(Exception):
    """A reply has an unsupported Content-Encoding, or its compressed data are damaged."""


FAILURES: Final = (aiohttp.ClientError, OSError, UnicodeError, TooLarge, UnusableEncoding)
"""What requests and reading replies can raise. `UnicodeError` is raised for host names that cannot be encoded."""


class UnusableProxy(Exception):
    """The environment names a proxy that cannot be used. The message does not contain its address."""


class HttpReply:
    """A reply whose body is read piece by piece. It must be closed, whether or not it was read completely."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self._response = response

    @property
    def is_event_stream(self) -> bool:
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower() == "text/event-stream"

    async def pieces(self, limit: int) -> AsyncGenerator[bytes, None]:
        """The uncompressed body. Raises `TooLarge` if it has more than `limit` bytes, compressed or uncompressed."""
        inflater = _inflater(self.headers.get("Content-Encoding", ""))
        sent = inflated = 0
        content = self._response.content
        while piece := await content.read(_PIECE):
            sent += len(piece)
            if sent > limit:
                raise TooLarge
            if len(piece) == _PIECE:  # `read` does not yield to the event loop while more data are buffered
                await asyncio.sleep(0)
            if inflater is None:
                yield piece
                continue
            for part in _inflate(inflater, piece):
                inflated += len(part)
                if inflated > limit:
                    raise TooLarge
                yield part
            if inflater.eof:
                return
        if inflater is not None and sent:
            raise aiohttp.ClientPayloadError("the compressed body is cut off")

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises `TooLarge` if it has more than `limit` bytes."""
        content = self._response.content
        if content.is_eof() and content.total_bytes <= limit and "Content-Encoding" not in self.headers:
            return content.read_nowait()  # it arrived together with the headers
        return b"".join([piece async for piece in self.pieces(limit)])

    async def drain(self) -> None:
        """Wait briefly for the end of a body of which nothing more is needed, so that the connection can be reused."""
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                await self._response.content.readany()
        except FAILURES:
            pass

    def close(self) -> None:
        """Closes the connection if the body was not read completely."""
        self._response.close()


class HttpSession:
    """Connections to the endpoint at `base_url`. Belongs to the running event loop. Raises `UnusableProxy`."""

    def __init__(self, base_url: str, key: str, *, timeout_connect: float) -> None:
        self._base_url = base_url
        self._proxy, self._proxy_headers = _proxy_for(base_url)
        # Passed with each request. Session headers would also be sent to a proxy, with the CONNECT request.
        self._headers = {
            "Authorization": f"Bearer {key}",
            "User-Agent": f"colm-vl/{__version__}",
            "Accept": "application/json",
            # Replies are small, and compressed ones could unpack to any size. Some gateways compress anyway, so
            # `HttpReply.pieces` can uncompress them up to a limit.
            "Accept-Encoding": "identity",
        }
        self._headers_of_posts = self._headers | {"Content-Type": "application/json"}
        self._headers_of_streams = self._headers_of_posts | {"Accept": "text/event-stream"}
        self._timed = aiohttp.ClientTimeout(total=None, sock_connect=timeout_connect)
        self._untimed = aiohttp.ClientTimeout(total=None, sock_connect=timeout_connect, sock_read=_READ_TIMEOUT)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,  # limited by `_http_endpoint.py`
                ssl=_tls(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
                if base_url.startswith("https")
                else True,
                resolver=aiohttp.ThreadedResolver(),
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )

    async def get(self, path: str) -> HttpReply:
        return await self._request("GET", path, None, self._headers, timed=True)

    async def post(self, path: str, body: bytes, *, stream: bool, timed: bool) -> HttpReply:
        """Send JSON. `timed`: the caller applies a timeout; otherwise the request fails after minutes without data."""
        headers = self._headers_of_streams if stream else self._headers_of_posts
        return await self._request("POST", path, _whole_or_in_pieces(body), headers, timed=timed)

    async def head(self, path: str) -> HttpReply:
        return await self._request("HEAD", path, None, self._headers, timed=True)

    async def put(self, path: str, body: bytes, media_type: str) -> HttpReply:
        headers = self._headers | {"Content-Type": media_type}
        return await self._request("PUT", path, _whole_or_in_pieces(body), headers, timed=True)

    async def _request(
        self, method: str, path: str, data: bytes | io.BytesIO | None, headers: dict[str, str], *, timed: bool
    ) -> HttpReply:
        response = await self._session.request(
            method,
            self._base_url + path,
            data=data,
            headers=headers,
            # With `timed`, no read timeout: resetting its timer on each piece of data takes 2 % of a call's time.
            timeout=self._timed if timed else self._untimed,
            proxy=self._proxy,
            proxy_headers=self._proxy_headers,
            # A redirect can lead to another host, which must not get the key and the pictures.
            allow_redirects=False,
        )
        return HttpReply(response)

    async def aclose(self) -> None:
        await self._session.close()


def _whole_or_in_pieces(body: bytes) -> bytes | io.BytesIO:
    """Large bodies are sent in pieces, so that the event loop is not blocked."""
    return body if len(body) < _LARGE_BODY else io.BytesIO(body)


@cache
def _tls(certificates: str | None, folder: str | None) -> ssl.SSLContext:
    """OpenSSL reads the two variables itself. They are parameters so that a change gives a new context."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _proxy_for(base_url: str) -> tuple[str | None, dict[str, str] | None]:
    """The proxy that the environment names for this address, and its headers.

    aiohttp's `trust_env` is not used: it would start two threads for each request, and read keys from ~/.netrc.
    """
    url = urlsplit(base_url)
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all", "")
    if not proxy or proxy_bypass(url.hostname or ""):
        return None, None
    if proxy.lower().startswith("socks"):  # aiohttp would send it an HTTP request with the key
        raise UnusableProxy("a SOCKS proxy, which is not supported")
    try:
        address = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        usable = address.scheme in ("http", "https") and bool(address.hostname) and (address.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        raise UnusableProxy("a proxy whose address does not have the form http://host:port")
    account, _, host = address.netloc.rpartition("@")
    headers = None
    if account:
        encoded = base64.b64encode(unquote(account).encode()).decode()
        headers = {"Proxy-Authorization": f"Basic {encoded}"}
    return f"{address.scheme}://{host}", headers


def _inflater(encoding: str) -> zlib._Decompress | None:
    names = [name for name in encoding.lower().replace(" ", "").split(",") if name not in ("", "identity")]
    if not names:
        return None
    if names not in (["gzip"], ["x-gzip"], ["deflate"]):
        raise UnusableEncoding
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # detects gzip or zlib


def _inflate(inflater: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    while True:
        try:
            part = inflater.decompress(data, _PIECE)
        except zlib.error:
            raise UnusableEncoding from None
        if part:
            yield part
        data = inflater.unconsumed_tail
        if not data and len(part) < _PIECE:
            return
