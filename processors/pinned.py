"""One https request: to an address that was checked, the very same that is called, and within a deadline."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import httpcore
from typing_extensions import override

from processors.errors import ImageError
from processors.fetching import FetchPolicy, Network

_RETRY = "try again later, or download the picture and pass its path"
_LOCAL = "download the picture and pass its path"


class Answer(NamedTuple):
    """What a server answered: a body, or where to go instead."""

    data: bytes
    location: str | None


def get(host: str, target: str, place: str, policy: FetchPolicy, network: Network, deadline: float) -> Answer:
    """GET https://{host}{target}. `host` may carry a port; `place` is the URL for messages. Raises ImageError."""
    name, _, port = host.partition(":")
    url = httpcore.URL(scheme=b"https", host=name.encode(), port=int(port or 443), target=target.encode())
    headers = [
        (b"Host", host.encode()),
        (b"User-Agent", b"colm-vl"),
        (b"Accept", b"image/*"),
        # A compressed answer could unpack to any size; pictures are compressed as they are.
        (b"Accept-Encoding", b"identity"),
        (b"Connection", b"close"),
    ]
    timed_out = ImageError(
        f"the picture at {place} did not arrive within {policy.timeout:g} s", hint=_RETRY, retryable=True
    )
    backend = _CheckedBackend(place, network, deadline)
    try:
        with (
            httpcore.ConnectionPool(ssl_context=network.tls(), network_backend=backend) as pool,
            pool.stream("GET", url, headers=headers) as response,
        ):
            return _read(response, place, policy)
    except httpcore.TimeoutException:
        raise timed_out from None
    except (httpcore.NetworkError, httpcore.ProtocolError, OSError):
        if time.monotonic() >= deadline:
            raise timed_out from None
        raise ImageError(
            f"the picture at {place} cannot be fetched: the connection failed", hint=_RETRY, retryable=True
        ) from None


def _read(response: httpcore.Response, place: str, policy: FetchPolicy) -> Answer:
    headers = {name.lower(): value.decode("latin-1") for name, value in response.headers}
    if response.status in {301, 302, 303, 307, 308} and b"location" in headers:
        return Answer(b"", headers[b"location"])
    if response.status != 200:
        retryable = response.status == 429 or response.status >= 500
        raise ImageError(
            f"the picture at {place} cannot be fetched: its host answered {response.status}",
            hint=_RETRY if retryable else "check the URL, and whether it needs a login",
            retryable=retryable,
        )
    if headers.get(b"content-encoding", "identity").lower() != "identity":
        raise ImageError(f"the picture at {place} came compressed, though asked for as it is", hint=_LOCAL)
    too_large = ImageError(
        f"the picture at {place} has more than the allowed {policy.max_bytes:,} bytes",
        hint="raise the policy's max_bytes",
    )
    declared = headers.get(b"content-length", "0")
    if declared.isdecimal() and int(declared) > policy.max_bytes:
        raise too_large
    data = bytearray()
    for part in response.iter_stream():
        data += part
        if len(data) > policy.max_bytes:
            raise too_large
    return Answer(bytes(data), None)


class _CheckedBackend(httpcore.NetworkBackend):
    """Resolves a name once, checks every address, and connects to what it checked: a second answer cannot differ."""

    def __init__(self, place: str, network: Network, deadline: float) -> None:
        self._place = place
        self._network = network
        self._deadline = deadline

    @override
    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            addresses = self._network.resolve(host, port)
        except (OSError, UnicodeError, OverflowError):  # unknown, or a name that cannot be one
            raise ImageError(
                f"the picture at {self._place} is on a host that cannot be found",
                hint="check its name and the network",
                retryable=True,
            ) from None
        # All of them: a name with one public and one private address is a trap, or a mistake that will be one.
        if not addresses or not all(self._network.is_public(address) for address in addresses):
            raise ImageError(
                f"the picture at {self._place} is on a host with a private address, which is never fetched from",
                hint=_LOCAL,
            )
        backend = httpcore.SyncBackend()
        for last, address in enumerate(addresses, start=1 - len(addresses)):
            try:
                stream = backend.connect_tcp(
                    address, port, timeout=_left(self._deadline), socket_options=socket_options
                )
            except httpcore.ConnectError:
                if last == 0:
                    raise
            else:
                return _TimedStream(stream, self._place, self._deadline)
        raise httpcore.ConnectError


class _TimedStream(httpcore.NetworkStream):
    """A stream whose every step ends at one deadline: a server that sends a byte a second gains nothing."""

    def __init__(self, stream: httpcore.NetworkStream, place: str, deadline: float) -> None:
        self._stream = stream
        self._place = place
        self._deadline = deadline

    @override
    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(self._deadline))

    @override
    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(self._deadline))

    @override
    def close(self) -> None:
        self._stream.close()

    @override
    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        try:
            stream = self._stream.start_tls(ssl_context, server_hostname, _left(self._deadline))
        except httpcore.ConnectError as error:
            if isinstance(error.__cause__, ssl.SSLCertVerificationError):
                raise ImageError(
                    f"the picture at {self._place} is on a host whose certificate is not valid for it", hint=_LOCAL
                ) from None
            raise
        return _TimedStream(stream, self._place, self._deadline)

    @override
    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout
    return left
