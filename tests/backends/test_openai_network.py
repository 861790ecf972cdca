"""Certificates, proxies and event loops of endpoints."""

from __future__ import annotations

import asyncio
import base64
import gc
import ssl
import threading
import warnings
from pathlib import Path

import pytest

from colm_vl.backends.base import Backend, Message, Request
from colm_vl.backends.openai import Options, connect
from colm_vl.errors import BackendError, Unreachable
from tests.backends.test_openai_hostile import completion
from tests.endpoint import Endpoint
from tests.endpoint.raw import raw_server, response

KEY = "sk-a-very-secret-key"
ASK = Request((Message("user", ("Which colour?",)),), timeout=20)


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOX_KEY", KEY)


def model(base_url: str, **options: object) -> Backend:
    settings = {"model": "m", "base_url": base_url, "max_retries": 0, "api_key_env": "BOX_KEY"} | options
    return connect(Options.model_validate(settings))


async def text(base_url: str) -> str:
    backend = model(base_url)
    try:
        return (await backend.generate(ASK)).text
    finally:
        await backend.aclose()


async def failure(base_url: str, **options: object) -> BackendError:
    backend = model(base_url, **options)
    try:
        with pytest.raises(BackendError) as caught:
            await backend.generate(ASK)
    finally:
        await backend.aclose()
    return caught.value


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate / "certificate.pem", certificate / "key.pem")
    return context


# --- certificates ---


async def test_an_untrusted_certificate_is_reported(tls: ssl.SSLContext) -> None:
    async with raw_server(response(completion()), tls=tls) as (port, heads):
        error = await failure(f"https://localhost:{port}/v1", max_retries=3)
    assert isinstance(error, Unreachable)
    assert "its certificate cannot be verified" in error.message
    assert "SSL_CERT_FILE" in error.hint
    assert not error.retryable
    assert not heads


async def test_ssl_cert_file_adds_an_issuer(
    tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "certificate.pem"))
    async with raw_server(response(completion()), tls=tls) as (port, _):
        assert await text(f"https://localhost:{port}/v1") == "Answer: red"


async def test_tls_to_a_server_without_tls_is_reported() -> None:
    async with raw_server(response(b"")) as (port, _):
        error = await failure(f"https://127.0.0.1:{port}/v1")
    assert isinstance(error, Unreachable)


# --- proxies ---


async def test_a_proxy_gets_its_credentials_but_not_the_key(
    tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "certificate.pem"))
    async with raw_server(response(completion()), tls=tls) as (target, _):

        async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            there, to_there = await asyncio.open_connection("127.0.0.1", target)
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await asyncio.gather(copy(reader, to_there), copy(there, writer))

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(1 << 16):
                    sink.write(data)
            except ConnectionError:
                pass
            finally:
                sink.close()

        heads: list[bytes] = []
        async with await asyncio.start_server(tunnel, "127.0.0.1", 0) as proxy:
            port = proxy.sockets[0].getsockname()[1]
            monkeypatch.setenv("HTTPS_PROXY", f"http://user:p%40ss@127.0.0.1:{port}")
            monkeypatch.setenv("NO_PROXY", "")
            assert await text(f"https://localhost:{target}/v1") == "Answer: red"
    (head,) = heads
    assert head.startswith(f"CONNECT localhost:{target} HTTP/1.1".encode())
    assert b"Basic " + base64.b64encode(b"user:p@ss") in head
    assert KEY.encode() not in head


@pytest.mark.parametrize(("status", "retryable"), [(407, False), (403, False), (502, True)])
async def test_a_refusing_proxy_is_reported(status: int, retryable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_server(response(b"", status=status)) as (port, _):
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:hunter2@127.0.0.1:{port}")
        monkeypatch.setenv("NO_PROXY", "")
        error = await failure("https://no-such-host.invalid/v1")
    assert isinstance(error, Unreachable)
    assert f"the proxy answered with HTTP {status}" in error.message
    assert error.retryable is retryable
    assert "hunter2" not in error.message + error.hint


async def test_a_host_in_no_proxy_is_called_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with raw_server(response(completion())) as (port, _):
        assert await text(f"http://127.0.0.1:{port}/v1") == "Answer: red"


# --- event loops ---


def test_a_backend_serves_two_event_loops_at_once() -> None:
    found: list[str] = []
    with Endpoint(latency=0.01) as endpoint:
        backend = model(endpoint.base_url)
        both = threading.Barrier(2)

        async def several() -> None:
            await asyncio.to_thread(both.wait, 20)
            found.extend([(await backend.generate(ASK)).text for _ in range(5)])
            await backend.aclose()

        threads = [threading.Thread(target=asyncio.run, args=[several()]) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == ["Answer: yes"] * 10


@pytest.mark.parametrize("leave", ["finished", "half-read", "cancelled"])
def test_closing_leaves_nothing_open(leave: str, caplog: pytest.LogCaptureFixture) -> None:
    async def use(backend: Backend) -> None:
        stream = backend.stream(ASK)
        await anext(aiter(stream))
        if leave == "half-read":
            await stream.aclose()  # type: ignore[attr-defined]
        elif leave == "finished":
            async for _ in stream:
                pass
        else:
            call = asyncio.create_task(backend.generate(ASK))
            await asyncio.sleep(0)
            call.cancel()
            await stream.aclose()  # type: ignore[attr-defined]
        await backend.aclose()

    with Endpoint("one two three") as endpoint, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(use(model(endpoint.base_url)))
        gc.collect()
    assert not [str(warning.message) for warning in caught]
    assert not caplog.text
