"""Fetching from a real loopback server, and refusals before any connection is made."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import PIL.Image
import pytest
from typing_extensions import override

from processors import FetchPolicy, Image, ImageError
from processors.fetching import Network, fetch_picture, is_public

buffer = BytesIO()
PIL.Image.new("RGB", (30, 20), "red").save(buffer, "PNG")
PNG = buffer.getvalue()


def refusal(url: str, policy: FetchPolicy, network: Network) -> ImageError:
    with pytest.raises(ImageError) as caught:
        fetch_picture(url, policy, network)
    error = caught.value
    assert "\n" not in str(error)
    assert error.hint
    return error


def no_network() -> Network:
    """A network that fails the test if a name is resolved."""

    def resolve(host: str, port: int) -> list[str]:
        raise AssertionError(f"{host}:{port} was looked up")

    return Network(resolve=resolve)


@dataclass
class Host:
    """A loopback server for pictures.test with its own certificate."""

    port: int
    network: Network
    seen: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"pictures.test:{self.port}"

    @property
    def policy(self) -> FetchPolicy:
        return FetchPolicy({self.name}, max_bytes=10_000, timeout=5)

    def url(self, path: str) -> str:
        return f"https://{self.name}{path}"

    def refusal(self, path: str, policy: FetchPolicy | None = None) -> ImageError:
        return refusal(self.url(path), policy or self.policy, self.network)


@pytest.fixture
def host(certificate: Path) -> Iterator[Host]:
    stopped = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.seen.append(self.path)
            served.headers.update(self.headers.items())
            where = self.path.partition("?")[0]
            if where.startswith("/to"):
                self.answer(302, b"", Location=self.path.partition("?")[2])
            elif where == "/loop":
                self.answer(307, b"", Location="/loop")
            elif where.startswith("/status"):
                status = int(where.rpartition("/")[2])
                self.answer(status, b"" if status == 304 else b"<html>secret</html>")  # 304 never has a body
            elif where == "/declared":
                self.answer(200, b"", **{"Content-Length": "20000000000"})
            elif where == "/endless":
                self.send_response(200)
                self.end_headers()
                while not stopped.is_set():
                    self.wfile.write(bytes(1 << 12))
            elif where == "/gzip":
                self.answer(200, PNG, **{"Content-Encoding": "gzip"})
            elif where == "/cut":
                self.answer(200, PNG, **{"Content-Length": str(len(PNG) + 10)})
            elif where.startswith("/slow"):  # a byte at a time, in the body or already in the headers
                self.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"\r\n" if where == "/slow-body" else b"X-Header: "))
                while not stopped.wait(0.05):
                    self.wfile.write(b"x")
            elif where == "/page":
                self.answer(200, b"<!doctype html><html></html>")
            else:
                self.answer(200, PNG)

        def answer(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        @override
        def log_message(self, format: str, *args: object) -> None:
            """No output."""

    class Server(ThreadingHTTPServer):
        @override
        def handle_error(self, request: object, client_address: object) -> None:
            """Ignore errors: in several tests, the client disconnects."""

    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate / "certificate.pem", certificate / "key.pem")
    with Server(("127.0.0.1", 0), Handler) as server:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()

        def resolve(name: str, port: int) -> list[str]:
            assert name in {"pictures.test", "other.test"}
            return ["127.0.0.1"]

        def trusting() -> ssl.SSLContext:
            return ssl.create_default_context(cafile=certificate / "certificate.pem")

        served = Host(server.server_address[1], Network(resolve, lambda address: address == "127.0.0.1", trusting))
        yield served
        stopped.set()
        server.shutdown()
        thread.join()


def test_a_picture_from_an_allowed_host(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    fetched = fetch_picture(host.url("/map%20one.png?signature=s3cret"), host.policy, host.network)
    assert fetched.data == PNG
    assert fetched.name == "map one.png"
    assert "s3cret" not in fetched.place
    assert host.seen == ["/map%20one.png?signature=s3cret"]
    assert host.headers["Host"] == host.name
    assert host.headers["Accept-Encoding"] == "identity"
    assert not {"Cookie", "Authorization", "Referer"} & host.headers.keys()


def test_image_open_fetches_with_a_policy(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "processors.sources.fetch_picture", lambda url, policy: fetch_picture(url, policy, host.network)
    )
    image = Image.open(host.url("/map.png"), fetch=host.policy)
    assert (image.width, image.height, image.source) == (30, 20, "map.png")
    with pytest.raises(ImageError, match="/page is a web page"):
        Image.open(host.url("/page"), fetch=host.policy)


def test_loopback_is_refused_even_if_the_policy_allows_the_host(host: Host) -> None:
    policy = FetchPolicy({f"localhost:{host.port}", f"127.0.0.1:{host.port}"})
    for name in ("localhost", "127.0.0.1"):
        with pytest.raises(ImageError, match="private address"):
            Image.open(f"https://{name}:{host.port}/map.png", fetch=policy)
    assert host.seen == []


@pytest.mark.parametrize(
    "url",
    [
        "https://pictures.test\\@evil.test/a.png",
        "https://evil.test\\@pictures.test/a.png",
        "https://pictures.test@evil.test/a.png",
        "https://user:secret@pictures.test/a.png",
        "https://pictures.test:443@evil.test/a.png",
        "https://pictures.test/a\\..\\b.png",
        "https://pictures.test /a.png",
        "https://pictures.test\t/a.png",
        "https://pictures.test/a.png\r\nHost: evil.test",
        "https://pictures.test\n",
        "https://[::1]/a.png",
        "https://pictures.test:99999999/a.png",
        "https://pictures。test/a.png",
        "https://píctures.test/a.png",
        "https:///a.png",
        "https:pictures.test/a.png",
        "https://",
        "http://pictures.test/a.png",
    ],
)
def test_urls_that_two_parsers_could_read_differently(url: str) -> None:
    error = refusal(url, FetchPolicy({"pictures.test"}), no_network())
    assert "malformed" in str(error)
    assert "secret" not in str(error) + error.hint


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.test/a.png",
        "https://evil.test#@pictures.test/a.png",
        "https://evil.test?@pictures.test/a.png",
        "https://evil.test/@pictures.test/a.png",
        "https://pictures.test.evil.test/a.png",
        "https://sub.pictures.test/a.png",
        "https://pictures.test:8443/a.png",
        "https://2130706433/a.png",
    ],
)
def test_other_hosts_and_ports(url: str) -> None:
    error = refusal(url, FetchPolicy({"pictures.test"}), no_network())
    assert "not allowed; allowed: pictures.test" in str(error)


def test_names_are_compared_without_case_and_default_port() -> None:
    def resolve(host: str, port: int) -> list[str]:
        assert (host, port) == ("pictures.test", 443)
        raise socket.gaierror(-2, "internal text")

    for url in ("https://PICTURES.test/a.png", "HTTPS://pictures.test:443", "https://pictures.test?a"):
        error = refusal(url, FetchPolicy(["Pictures.TEST:443"]), Network(resolve))
        assert "cannot be found" in str(error)
        assert "internal text" not in str(error)
        assert error.retryable


@pytest.mark.parametrize("host", [f"{'a' * 70}.test", "a..test"])
def test_names_that_cannot_exist(host: str) -> None:
    assert "cannot be found" in str(refusal(f"https://{host}/a.png", FetchPolicy({host}), Network()))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.9.1", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
        "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fec0::1", "ff02::1", "2001:db8::1", "::127.0.0.1",
        "::ffff:127.0.0.1", "::ffff:169.254.169.254", "2002:7f00:1::", "64:ff9b::a00:1",
    ],
)  # fmt: skip
def test_addresses_that_are_never_called(address: str) -> None:
    assert not is_public(address)
    for addresses in ([address], ["93.184.215.14", address], [address, "93.184.215.14"]):
        error = refusal(
            "https://pictures.test/a.png", FetchPolicy({"pictures.test"}), Network(lambda *_, found=addresses: found)
        )
        assert "private address" in str(error)
        assert address not in str(error)
        assert not error.retryable


@pytest.mark.parametrize("address", ["93.184.215.14", "8.8.8.8", "2606:4700::1", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses(address: str) -> None:
    assert is_public(address)


def test_the_address_that_was_checked_is_the_one_that_is_called(host: Host) -> None:
    """Names are resolved once, because a second lookup could give another address (DNS rebinding)."""
    answers = iter([["127.0.0.1"]])
    rebinding = Network(lambda *_: next(answers), host.network.is_public, host.network.tls)
    assert fetch_picture(host.url("/a.png"), host.policy, rebinding).data == PNG


def test_the_next_address_is_tried_when_one_does_not_answer(host: Host) -> None:
    two = Network(lambda *_: ["127.0.0.2", "127.0.0.1"], lambda _: True, host.network.tls)
    assert fetch_picture(host.url("/a.png"), host.policy, two).data == PNG


def test_a_thread_whose_event_loop_runs_can_fetch_too(host: Host) -> None:
    async def fetch() -> bytes:
        return fetch_picture(host.url("/a.png"), host.policy, host.network).data

    assert asyncio.run(fetch()) == PNG


@pytest.mark.parametrize("name", ["127.0.0.1", "2130706433", "127.1"])
def test_a_host_that_is_an_address_is_called_at_the_checked_one_only(host: Host, name: str) -> None:
    """aiohttp does not use the resolver for such hosts."""
    policy = FetchPolicy({f"{name}:{host.port}"}, timeout=5)
    elsewhere = Network(lambda *_: ["127.0.0.2"], host.network.is_public, host.network.tls)
    with pytest.raises(ImageError):
        fetch_picture(f"https://{name}:{host.port}/a.png", policy, Network(lambda *_: ["127.0.0.2"], lambda _: True))
    with pytest.raises(ImageError, match="private address"):
        fetch_picture(f"https://{name}:{host.port}/a.png", policy, elsewhere)
    assert host.seen == []


def test_redirects_within_the_allowed_hosts(host: Host) -> None:
    for location in ("/map.png", host.url("/map.png"), f"//{host.name}/map.png", "map.png#top"):
        fetched = fetch_picture(host.url(f"/to?{location}"), host.policy, host.network)
        assert (fetched.data, fetched.name) == (PNG, "map.png")


def test_redirects_that_are_not_followed(host: Host) -> None:
    assert "not allowed" in str(host.refusal("/to?https://other.test/a.png"))
    assert "malformed" in str(host.refusal(f"/to?http://{host.name}/a.png"))
    assert "malformed" in str(host.refusal("/to?file:///etc/passwd"))
    assert "malformed" in str(host.refusal("/to?https://["))
    assert "malformed" in str(host.refusal(f"/to?https://{host.name}\\@other.test/a.png"))
    assert "more than 3 redirects" in str(host.refusal("/loop"))
    assert host.seen.count("/loop") == 4


def test_a_redirect_is_resolved_and_checked_anew(host: Host) -> None:
    policy = FetchPolicy({host.name, f"other.test:{host.port}"})
    addresses = {"pictures.test": ["127.0.0.1"], "other.test": ["10.0.0.1"]}
    network = Network(lambda name, _: addresses[name], host.network.is_public, host.network.tls)
    assert "private address" in str(refusal(host.url(f"/to?https://other.test:{host.port}/a.png"), policy, network))


def test_a_certificate_for_another_name(host: Host) -> None:
    error = refusal(f"https://other.test:{host.port}/a.png", FetchPolicy({f"other.test:{host.port}"}), host.network)
    assert "certificate" in str(error)
    assert not error.retryable
    assert host.seen == []


def test_an_unknown_issuer(host: Host) -> None:
    untrusting = Network(host.network.resolve, host.network.is_public)
    assert "certificate" in str(refusal(host.url("/a.png"), host.policy, untrusting))


def test_the_size_limit_does_not_depend_on_the_declared_length(host: Host) -> None:
    for path in ("/declared", "/endless"):
        assert "more than the allowed 10,000 bytes" in str(host.refusal(path))
    exact = FetchPolicy({host.name}, max_bytes=len(PNG))
    assert fetch_picture(host.url("/a.png"), exact, host.network).data == PNG
    assert "allowed" in str(host.refusal("/a.png", FetchPolicy({host.name}, max_bytes=len(PNG) - 1)))


@pytest.mark.parametrize("path", ["/slow-body", "/slow-headers"])
def test_the_timeout_covers_the_whole_fetch(host: Host, path: str) -> None:
    start = time.monotonic()
    error = host.refusal(path, FetchPolicy({host.name}, timeout=0.5))
    assert time.monotonic() - start < 1.5
    assert "within 0.5 s" in str(error)
    assert error.retryable


def test_a_server_that_says_nothing(host: Host) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        policy = FetchPolicy({f"pictures.test:{port}"}, timeout=0.3)
        assert "within 0.3 s" in str(refusal(f"https://pictures.test:{port}/a.png", policy, host.network))


def test_a_server_that_is_not_there(host: Host) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    error = refusal(f"https://pictures.test:{port}/a.png", FetchPolicy({f"pictures.test:{port}"}), host.network)
    assert "connection failed" in str(error)
    assert error.retryable


@pytest.mark.parametrize(("status", "retryable"), [(401, False), (404, False), (304, False), (429, True), (503, True)])
def test_other_answers(host: Host, status: int, retryable: bool) -> None:
    error = host.refusal(f"/status/{status}?key=secret")
    assert f"answered {status}" in str(error)
    assert "secret" not in str(error)
    assert error.retryable == retryable


def test_answers_that_cannot_be_used(host: Host) -> None:
    assert "compressed" in str(host.refusal("/gzip"))
    cut = host.refusal("/cut")
    assert "connection failed" in str(cut)
    assert cut.retryable


@pytest.mark.parametrize(
    "make",
    [
        lambda: FetchPolicy("pictures.test"),
        lambda: FetchPolicy({"*.pictures.test"}),
        lambda: FetchPolicy({"https://pictures.test"}),
        lambda: FetchPolicy({"pictures.test/folder"}),
        lambda: FetchPolicy({""}),
        lambda: FetchPolicy({"pictures.test"}, max_bytes=0),
        lambda: FetchPolicy({"pictures.test"}, timeout=0),
    ],
)
def test_invalid_policies(make: Callable[[], FetchPolicy]) -> None:
    with pytest.raises(ImageError) as caught:
        make()
    assert caught.value.hint
