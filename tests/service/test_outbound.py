"""The service connects to nothing that a caller names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from tests.service.hosted import client, service
from tests.service.test_chat import ask, body, text

_HOSTS = (
    "127.0.0.1:{port}", "localhost:{port}", "LOCALHOST:{port}", "localhost.:{port}", "127.1:{port}", "127.0.1:{port}",
    "2130706433:{port}", "0x7f000001:{port}", "0x7f.0.0.1:{port}", "0177.0.0.1:{port}", "017700000001:{port}",
    "127.0.0.1.:{port}", "0.0.0.0:{port}", "0:{port}", "[::1]:{port}", "[::]:{port}", "[::ffff:127.0.0.1]:{port}",
    "[0:0:0:0:0:ffff:7f00:1]:{port}", "[64:ff9b::7f00:1]:{port}", "127.0.0.1%00:{port}", "127.0.0.1%2f:{port}",
    "pictures.test@127.0.0.1:{port}", "pictures.test:x@127.0.0.1:{port}", "127.0.0.1:{port}#@pictures.test",
    "127.0.0.1:{port}?@pictures.test", "127.0.0.1:{port}\\@pictures.test", "pictures.test\\@127.0.0.1:{port}",
    "127.127.127.127:{port}", "①②⑦.⓪.⓪.①:{port}", "127。0。0。1:{port}",
    "localtest.me:{port}", "127.0.0.1.nip.io:{port}",
)  # fmt: skip
_OTHERS = (
    "//127.0.0.1:{port}/a.png", "/proc/self/environ", "file:///etc/passwd", "file://127.0.0.1:{port}/a.png",
    "ftp://127.0.0.1:{port}/a.png", "gopher://127.0.0.1:{port}/_GET", "dict://127.0.0.1:{port}/x", "ldap://127.0.0.1:{port}",
    "ws://127.0.0.1:{port}/", "jar:http://127.0.0.1:{port}/a!/b", "url:http://127.0.0.1:{port}/a.png",
    " http://127.0.0.1:{port}/a.png", "\thttps://localhost:{port}/a.png", "ht\ntp://127.0.0.1:{port}/a.png",
    "HTTPS://LOCALHOST:{port}/a.png", "https:127.0.0.1:{port}/a.png", "https:/127.0.0.1:{port}/a.png",
    "https:///127.0.0.1:{port}/a.png", "https:\\\\127.0.0.1:{port}\\a.png", "https://:@127.0.0.1:{port}/",
    "https://169.254.169.254/latest/meta-data/", "https://[fd00:ec2::254]/latest/", "https://10.0.0.1/a.png",
    "https://metadata.google.internal/computeMetadata/v1/", "data:text/html,<img src=http://127.0.0.1:{port}>",
    "data:image/svg+xml;base64,PHN2Zz48aW1hZ2UgaHJlZj0iaHR0cDovLzEyNy4wLjAuMSIvPjwvc3ZnPg==", "~/.ssh/id_rsa",
    "../../etc/passwd", "\\\\127.0.0.1\\share\\a.png", "concat:http://127.0.0.1:{port}/a", "",
)  # fmt: skip
FORMS = tuple(f"{scheme}://{host}/a.png" for scheme in ("http", "https") for host in _HOSTS) + _OTHERS


@dataclass
class Listener:
    port: int = 0
    connections: int = 0


@asynccontextmanager
async def listening() -> AsyncGenerator[Listener, None]:
    """A port on loopback that counts who connects."""
    found = Listener()

    async def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.connections += 1
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    async with server:
        yield found


@pytest.mark.parametrize("allowed", [False, True])
async def test_no_picture_address_reaches_this_machine_or_its_network(allowed: bool) -> None:
    """With allowed hosts, too: one of them names the listener, and is refused for its address."""
    assert len(FORMS) >= 60
    async with listening() as listener:
        hosts = [f"localhost:{listener.port}", f"127.0.0.1:{listener.port}"] if allowed else []
        async with client(service(settings={"image_hosts": hosts})) as http:
            for number, form in enumerate(FORMS):
                url = form.replace("{port}", str(listener.port))
                picture = {"type": "image_url", "image_url": {"url": url} if number % 2 else url}
                answer = await ask(http, body(text(), picture))
                assert answer.status_code == 400, url
                assert "passwd" not in answer.text
        assert listener.connections == 0


async def test_no_schema_makes_the_service_connect() -> None:
    async with listening() as listener, client() as http:
        for key in ("$ref", "$dynamicRef", "$id"):
            schema = {"properties": {"a": {key: f"http://127.0.0.1:{listener.port}/schema.json"}}}
            form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
            assert (await ask(http, body(response_format=form))).status_code == 400
        assert listener.connections == 0


async def test_pages_of_other_origins_may_call_only_if_the_operator_says_so() -> None:
    headers = {"Origin": "https://ui.example", "Access-Control-Request-Method": "POST"}
    async with client() as http:
        assert "access-control-allow-origin" not in (await http.get("/v1/models", headers=headers)).headers
    async with client(service(settings={"cors_origins": ["https://ui.example"]})) as http:
        asked = await http.options("/v1/chat/completions", headers=headers)
        assert asked.headers["access-control-allow-origin"] == "https://ui.example"
