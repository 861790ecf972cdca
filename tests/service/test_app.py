"""Access, probes and errors of the service."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from colm_vl.cli import app as command_line
from colm_vl.service import keys
from colm_vl.service.keys import QuotaTable
from tests.service import hosted
from tests.service.hosted import client, service, team


async def test_probes_need_no_key_and_tell_whether_the_members_answer(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    keys.add(file, "ann", 1.0, QuotaTable())
    async with client(service(keys=file)) as http:
        assert (await http.get("/health")).json() == {"status": "ok"}
        assert (await http.get("/ready")).json() == {"ready": True, "failing": []}
    broken = team(server=[{"error": "unreachable", "text": "http://10.1.2.3:8000 refused the connection"}])
    async with client(service(broken)) as http:
        answer = await http.get("/ready")
        assert (answer.status_code, answer.json()) == (503, {"ready": False, "failing": ["server"]})


async def test_a_key_counts_until_it_is_revoked(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    ann, bob = (keys.add(file, name, 1.0, QuotaTable()) for name in ("ann", "bob"))
    assert ann not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    async with client(service(keys=file)) as http:

        async def status(key: str, scheme: str = "Bearer") -> int:
            return (await http.get("/nowhere", headers={"Authorization": f"{scheme} {key}"})).status_code

        assert [await status(ann), await status(bob), await status(ann, "bearer")] == [404, 404, 404]
        assert [await status(ann[:-1]), await status(""), await status(ann, "Basic")] == [401, 401, 401]
        keys.revoke(file, "ann")
        assert [await status(ann), await status(bob)] == [401, 404]
        answer = await http.get("/nowhere")
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.json()["error"]["type"] == "refused"
        file.write_text("not TOML")
        assert [await status(ann), await status(bob)] == [401, 404]


async def test_a_body_that_is_too_long_is_not_read() -> None:
    async with client(service(settings={"limits": {"body_bytes": 1024}})) as http:
        answer = await http.post("/health", content=b"x" * 1025)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


def test_keys_are_managed_on_the_command_line(tmp_path: Path) -> None:
    file = str(tmp_path / "keys.toml")
    run = CliRunner().invoke
    made = run(command_line, ["keys", "add", "ann", "--weight", "2", "--quota", "tokens_per_day=5000", "--keys", file])
    assert made.exit_code == 0
    assert keys.KeyRing(Path(file)).find(made.output.strip()) is not None
    assert "5,000" in run(command_line, ["keys", "list", "--keys", file]).output
    again = run(command_line, ["keys", "add", "ann", "--keys", file])
    assert "has a key 'ann'" in str(again.exception)
    unknown = run(command_line, ["keys", "add", "bob", "--quota", "tokens=1", "--keys", file])
    assert "--quota: unknown key 'tokens'" in str(unknown.exception)
    assert run(command_line, ["keys", "revoke", "ann", "--keys", file]).exit_code == 0
    assert keys.read(Path(file)) == {}


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_without_keys_only_loopback_is_served(host: str) -> None:
    result = CliRunner().invoke(command_line, ["serve", "--host", host, "--port", "0"])
    assert "there are no keys" in str(result.exception)


def test_a_key_that_a_client_needs_is_missed_at_the_start(tmp_path: Path) -> None:
    file = tmp_path / "team.toml"
    file.write_text(
        '[[clients]]\nname = "x"\nbackend = "openai"\nmodel = "m"\nbase_url = "http://127.0.0.1:9/v1"\n'
        'api_key_env = "COLM_VL_NO_SUCH_KEY"\n[policy]\nstrategy = "vote"\n'
    )
    result = CliRunner().invoke(command_line, ["serve", "--team", str(file), "--port", "0"])
    assert "'COLM_VL_NO_SUCH_KEY', named by api_key_env, is not set" in str(result.exception)


def test_sigterm_ends_the_process_with_status_0() -> None:
    with hosted.process() as served:
        assert httpx.get(f"{served.url}/health").json() == {"status": "ok"}
        begun = time.monotonic()
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(20) == 0
        assert time.monotonic() - begun < 10
        assert served.process.stderr is not None
        assert served.process.stderr.read() == ""


SLOW_TEAM = """
[[clients]]
name = "slow"
backend = "scripted"
model = "slow"
replies = [{ text = "Answer: 5", delay = DELAY }]

[policy]
strategy = "vote"
"""


@pytest.mark.parametrize(("delay", "told"), [(1.0, "5"), (60.0, "the service was stopped")])
def test_what_is_under_way_at_sigterm_ends_or_is_cancelled_after_the_grace_time(
    tmp_path: Path, delay: float, told: str
) -> None:
    (tmp_path / "team.toml").write_text(SLOW_TEAM.replace("DELAY", str(delay)))
    (tmp_path / "serve.toml").write_text("grace = 3")
    question = {"model": "vote", "stream": True, "messages": [{"role": "user", "content": "How many?"}]}
    with hosted.process("--team", str(tmp_path / "team.toml"), "--config", str(tmp_path / "serve.toml")) as served:
        begun = time.monotonic()
        with httpx.stream("POST", f"{served.url}/v1/chat/completions", json=question, timeout=30) as answer:
            lines = answer.iter_lines()
            assert next(lines) == ": keep-alive"
            assert time.monotonic() - begun < 1
            served.process.send_signal(signal.SIGTERM)
            said = "\n".join(lines)
        assert told in said
        assert said.rstrip().endswith("[DONE]")
        assert served.process.wait(20) == 0
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{served.url}/health")
