"""Fetches pictures over https, only from hosts that the caller allows."""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
import time
import urllib.parse
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from processors.errors import ImageError

MAX_REDIRECTS = 3

_HOST = r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::[0-9]{1,5})?"
# A strict grammar: no user name, backslash, white space, IPv6 literal or non-ASCII character. The request is built from
# the matched groups, so that no other URL parser can find a different host in the same text.
_URL = re.compile(rf"https://(?P<host>{_HOST})(?P<target>(?:[/?][!-\[\]-~]*)?)", re.IGNORECASE)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class FetchPolicy:
    """What may be fetched. Without a policy, `Image.open` fetches nothing.

    hosts: full host names, with the port if it is not 443: `{"img.example.org", "img.example.org:8443"}`.
    max_bytes: maximum size of a response body.
    timeout: seconds for the whole fetch, including redirects; name resolution has the operating system's own limit.

    Names that resolve to private, loopback or link-local addresses are refused. Proxies set in the environment are not
    used.
    """

    hosts: Collection[str]
    max_bytes: int = 20_000_000
    timeout: float = 20.0

    def __post_init__(self) -> None:
        """Raises `ImageError` if a host name or a limit is invalid."""
        if isinstance(self.hosts, str):
            raise ImageError(f"hosts is the string {self.hosts!a}, not a set", hint="pass a set of host names")
        names = frozenset(host.lower().removesuffix(":443") for host in self.hosts)
        for name in names:
            if not re.fullmatch(_HOST, name):
                raise ImageError(
                    f"{name!a} is not a host name",
                    hint="expected a name such as img.example.org, with :port if it is not 443; no scheme or wildcard",
                )
        if self.max_bytes < 1 or self.timeout <= 0:
            raise ImageError(
                f"max_bytes is {self.max_bytes} and timeout {self.timeout:g} s", hint="both must be greater than 0"
            )
        object.__setattr__(self, "hosts", names)


class Fetched(NamedTuple):
    """A fetched file."""

    data: bytes
    place: str
    """Its URL for messages, without the query, which may contain a signature."""
    name: str
    """The last part of its path, or its host."""


def is_public(address: str) -> bool:
    """Whether an IP address is public. For IPv6 addresses that embed an IPv4 address, the latter decides."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if ip.is_site_local:
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def _resolve(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


@dataclass(frozen=True, slots=True)
class Network:
    """Name resolution and TLS. It is not part of the policy; tests replace it to reach their own server."""

    resolve: Callable[[str, int], list[str]] = field(default=_resolve)
    is_public: Callable[[str], bool] = field(default=is_public)
    tls: Callable[[], ssl.SSLContext] = field(default=ssl.create_default_context)


def fetch_picture(url: str, policy: FetchPolicy, network: Network | None = None) -> Fetched:
    """GET `url`. Raises `ImageError` if the policy does not allow it or the request fails."""
    # Imported here because importing the HTTP client takes a tenth of a second.
    from processors.pinned import get

    deadline = time.monotonic() + policy.timeout
    for _ in range(1 + MAX_REDIRECTS):
        host, target, place = _allowed(url, policy)
        answer = get(host, target, place, policy, network or Network(), deadline)
        if answer.location is None:
            path = urllib.parse.unquote(target.partition("?")[0])
            return Fetched(answer.data, place, path.rpartition("/")[2] or host)
        try:
            url = urllib.parse.urljoin(f"https://{host}{target}", answer.location)
        except ValueError:  # "https://[" and the like
            url = ""
    raise ImageError(f"the picture at {place} is behind more than {MAX_REDIRECTS} redirects", hint="pass the final URL")


class _Place(NamedTuple):
    host: str
    target: str
    shown: str


def _allowed(url: str, policy: FetchPolicy) -> _Place:
    found = _URL.fullmatch(url.partition("#")[0])
    if found is None:
        raise ImageError(
            "the picture's URL is malformed or not https",
            hint="expected https://host/path in ASCII, percent-encoded, without user name, password or backslash",
        )
    host = found["host"].lower().removesuffix(":443")
    target = found["target"] if found["target"].startswith("/") else "/" + found["target"]
    path = target.partition("?")[0]
    shown = f"https://{host}{path if len(path) <= 80 else path[:40] + '…' + path[-39:]}"
    if host not in policy.hosts:
        allowed = ", ".join(sorted(policy.hosts)) or "none"
        raise ImageError(
            f"the picture at {shown} is on a host that is not allowed; allowed: {allowed}", hint=_HOST_HINT
        )
    return _Place(host, target, shown)


_HOST_HINT = "add the host to the fetch policy if you trust it, or download the picture and pass its path"
