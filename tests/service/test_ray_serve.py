"""The service on Ray Serve: what holds for one process holds over its replicas. Run by `make test-ray`."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import PIL.Image
import pytest

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
pytest.importorskip("ray", reason="Ray is not installed: make test-ray")
pytest.importorskip("grpc", reason="Ray Serve is not installed: make test-ray")

from colm_vl.service import keys
from colm_vl.service.keys import QuotaTable
from colm_vl.service.ledger import usage

pytestmark = [pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore")]

SERVER_SECONDS = 0.1
TEAM = f"""
[[clients]]
name = "near"
specialty = "dots"
backend = "scripted"
model = "m"
replies = ["Caption: dots\\nAnswer: 5\\nConfidence: 90"]

[server]
backend = "scripted"
model = "g"
replies = [{{ text = "Evidence: five\\nDisagreement: none\\nCheck: it", delay = {SERVER_SECONDS} }}]
"""
SERVE = """
import os, signal, sys, threading
import ray
from ray import serve
from colm_vl.service.ray import app
ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
arguments = {"team": "team.toml", "keys": "keys.toml", "config": "config.toml", "ledger": "usage.sqlite"}
serve.run(app(arguments | {"replicas": 2, "cpus": 0.5}))
print("ready", flush=True)
sys.stdin.read()
serve.shutdown()
ray.shutdown()
"""


@dataclass(frozen=True, slots=True)
class Served:
    url: str
    keys: Mapping[str, str]
    folder: Path

    def client(self, name: str) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key=self.keys[name], max_retries=8, timeout=60)

    def http(self, name: str) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.keys[name]}"}, timeout=60)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("serve")
    (folder / "team.toml").write_text(TEAM, "utf-8")
    (folder / "config.toml").write_text('metrics_keys = ["heavy"]\n[queue]\nplaces = 1\n', "utf-8")
    quotas = {"heavy": {}, "light": {}, "bounded": {"requests_per_minute": 5}}
    made = {name: keys.add(folder / "keys.toml", name, 1.0, QuotaTable(**quota)) for name, quota in quotas.items()}
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(port)], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    while "ready" not in (line := process.stdout.readline()):
        assert line, "Ray Serve has not started"
    yield Served(f"http://127.0.0.1:{port}", made, folder)
    process.stdin.close()
    process.wait(60)
    process.stdout.close()


async def ask(client: openai.AsyncOpenAI, question: str = "How many dots?") -> str:
    answer = await client.chat.completions.create(model="colm", messages=[{"role": "user", "content": question}])
    return answer.choices[0].message.content or ""


async def test_replicas_share_the_work_and_answer_alike(served: Served) -> None:
    async with served.client("heavy") as client:
        assert await asyncio.gather(*(ask(client) for _ in range(20))) == ["5"] * 20
        stream = await client.chat.completions.create(
            model="colm", messages=[{"role": "user", "content": "How many?"}], stream=True
        )
        assert "".join([part.choices[0].delta.content or "" async for part in stream if part.choices]) == "5"
    counted: set[str] = set()
    with served.http("heavy") as http:
        for _ in range(30):
            lines = http.get("/metrics").text.splitlines()
            counted |= {
                line for line in lines if line.startswith("colm_vl_requests_total") and "chat/completions" in line
            }
    assert len(counted) == 2  # one for each replica
    assert sum(float(line.split()[-1]) for line in counted) == 21
    rows = {row.group: row.requests for row in usage(served.folder / "usage.sqlite")}
    assert rows["heavy"] >= 21


async def test_a_quota_holds_over_all_replicas(served: Served) -> None:
    async with served.client("bounded").with_options(max_retries=0) as client:
        results = await asyncio.gather(*(ask(client) for _ in range(20)), return_exceptions=True)
    assert results.count("5") == 5
    refused = [result for result in results if isinstance(result, openai.RateLimitError)]
    assert len(refused) == 15
    assert all(int(error.response.headers["Retry-After"]) > 0 for error in refused)


async def test_a_caller_with_many_calls_does_not_starve_another(served: Served) -> None:
    """With one place at the server, which takes 0.1 s for each call, in both replicas together."""
    async with served.client("heavy") as heavy, served.client("light") as light:
        many = [asyncio.create_task(ask(heavy)) for _ in range(60)]
        await asyncio.sleep(1.0)  # they wait
        waits = []
        for _ in range(5):
            begun = time.monotonic()
            assert await ask(light) == "5"
            waits.append(time.monotonic() - begun)
        assert not all(task.done() for task in many)
        assert await asyncio.gather(*many) == ["5"] * 60
    assert max(waits) < 20 * SERVER_SECONDS  # 40 or more calls of the other were waiting


def test_a_picture_uploaded_at_one_replica_is_known_at_all(served: Served) -> None:
    file = io.BytesIO()
    PIL.Image.new("RGB", (8, 8), "red").save(file, "PNG")
    digest = hashlib.sha256(file.getvalue()).hexdigest()
    body = {"question": "How many?", "pictures": [digest], "drafts": []}
    with served.http("light") as http, served.http("heavy") as other:
        assert http.put(f"/v1/pictures/{digest}", content=file.getvalue()).status_code == 204
        assert {http.head(f"/v1/pictures/{digest}").status_code for _ in range(12)} == {204}
        assert other.head(f"/v1/pictures/{digest}").status_code == 404
        assert {http.post("/v1/verdict", json=body).status_code for _ in range(6)} == {200}
        broken = http.put(f"/v1/pictures/{'0' * 64}", content=file.getvalue())
    assert broken.status_code == 400
    assert "SHA-256" in broken.json()["error"]["message"]


async def test_a_killed_replica_gives_its_place_back(served: Served) -> None:
    async with served.client("heavy") as client:
        asking = [asyncio.create_task(ask(client)) for _ in range(30)]
        await asyncio.sleep(0.5)
        found = subprocess.run(["pgrep", "-f", "^ray::ServeReplica:default:service"], capture_output=True, text=True)  # noqa: ASYNC221
        replicas = [int(line) for line in found.stdout.split()]
        assert len(replicas) == 2
        os.kill(replicas[0], signal.SIGKILL)
        # The client asks again what was lost. With one place, nothing would be answered if it were not given back.
        assert await asyncio.gather(*asking) == ["5"] * 30
