"""Logs in the format of inspect_ai, read and written by inspect_ai itself: `make test-clients`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.contract.served import ENVIRONMENT, clients
from tests.eval.test_exchange import GRADES, QUESTIONS, REPLIES, TEAM
from tests.eval.test_score_command import run

SCRIPT = Path(__file__).parent / "scripts" / "inspect_logs.py"

pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(clients() is None, reason=f"{ENVIRONMENT} names no environment with clients"),
]


def inspect(command: str, *arguments: str) -> str:
    folder = clients()
    assert folder is not None
    own = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run([str(folder / command), *arguments], env=own, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.chdir(tmp_path)
    Path("mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS), encoding="utf-8")
    Path("team.toml").write_text(TEAM, encoding="utf-8")
    return partial(run, monkeypatch)


def test_inspect_reads_our_logs_and_we_read_its_own(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--team", "team.toml", "--strategies", "vote,solo:one", "--out", "run")
    assert command("run", "mine.jsonl", *asked) == 0
    assert command("export", "run", "--to", "inspect", "--out", "logs") == 0
    logs = json.loads(inspect("python", str(SCRIPT), "logs", "own"))
    assert {log["model"] for log in logs} == {"colm-vl/vote", "colm-vl/solo:one"}
    for log in logs:
        assert (log["status"], log["accuracy"], log["scores"]) == ("success", pytest.approx(2 / 5), GRADES)
        assert {key: log["completions"][key] for key in ("q0", "q1", "q3", "q4")} == {
            key: REPLIES[key] for key in ("q0", "q1", "q3", "q4")
        }
        assert log["tokens"] > 0

    (archive,) = Path("own").glob("*.eval")
    inspect("inspect", "log", "convert", str(archive), "--to", "json", "--output-dir", "converted")
    logs_of_inspect = [*Path("own").glob("*.json"), *Path("converted").glob("*.json")]
    assert len(logs_of_inspect) == 2
    if sys.version_info >= (3, 14):  # reads Zstandard
        logs_of_inspect.append(archive)
    for path in logs_of_inspect:
        capsys.readouterr()
        assert command("score", "mine.jsonl", "--predictions", str(path), "--partial", "--json") == 0
        grades = json.loads(capsys.readouterr().out)["grades"]
        assert grades == {"q0": 1, "q1": 1, "q2": 1, "q3": 0, "q4": 1}
    if sys.version_info < (3, 14):
        assert command("score", "mine.jsonl", "--predictions", str(archive)) == 2
        assert "inspect log convert" in capsys.readouterr().err
