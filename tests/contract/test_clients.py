"""Other clients, in an environment of their own, against a real server process: `make test-clients`."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.contract.served import ENVIRONMENT, clients, team_with_key

SCRIPTS = Path(__file__).parent / "scripts"
QUESTION = "How many dots are there?"

pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(clients() is None, reason=f"{ENVIRONMENT} names no environment with clients"),
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    with team_with_key(tmp_path_factory.mktemp("served")) as environment:
        yield environment


def run(
    served: Mapping[str, str], command: str, *arguments: str, cwd: Path | None = None, **more: str
) -> subprocess.CompletedProcess[str]:
    folder = clients()
    assert folder is not None
    own = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(
        [str(folder / command), *arguments],
        env={**own, **served, **more},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=240,
    )


def found(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


@pytest.fixture
def picture(tmp_path: Path, dots_png: bytes) -> Path:
    file = tmp_path / "dots.png"
    file.write_bytes(dots_png)
    return file


def test_langchain(served: Mapping[str, str], dots_png: bytes) -> None:
    uri = f"data:image/png;base64,{base64.b64encode(dots_png).decode()}"
    got = found(run(served, "python", str(SCRIPTS / "langchain_client.py"), uri))
    assert (got["content"], got["streamed"], got["conversation"]) == ("5", "5", "5")
    assert got["structured"] == {"count": 5}
    assert got["tokens"] > 0
    assert "tools are not supported" in got["error"]


def test_inspect(served: Mapping[str, str], picture: Path, tmp_path: Path) -> None:
    settings = {"COLM_BASE_URL": served["OPENAI_BASE_URL"], "COLM_API_KEY": served["OPENAI_API_KEY"]}
    script = str(SCRIPTS / "inspect_client.py")
    got = found(run(served, "python", script, str(picture), str(tmp_path / "logs"), **settings))
    assert (got["colm"]["status"], got["colm"]["accuracy"]) == ("success", 1.0)
    assert "Guidance" in got["colm"]["reasoning"]
    assert got["colm"]["tokens"] > 0
    assert "no model is called" in got["gone"]["error"]


@pytest.mark.parametrize("more", [(), ("--responses",), ("--no-stream",)])
def test_llm(served: Mapping[str, str], picture: Path, tmp_path: Path, more: tuple[str, ...]) -> None:
    def llm(*arguments: str) -> subprocess.CompletedProcess[str]:
        endpoint = ("openai", "endpoint", served["OPENAI_BASE_URL"], "--key", served["OPENAI_API_KEY"])
        return run(served, "llm", *endpoint, *arguments, LLM_USER_PATH=str(tmp_path))

    asked = llm(QUESTION, "-m", "colm", "-a", str(picture), "--hide-reasoning", *more)
    assert (asked.returncode, asked.stdout.strip()) == (0, "5"), asked.stderr
    assert "solo:dots" in llm("--models").stdout
    wrong = llm(QUESTION, "-m", "gone", *more)
    assert wrong.returncode != 0
    assert "no model is called" in wrong.stderr


CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def test_schemathesis_finds_no_fault_and_no_undocumented_answer(served: Mapping[str, str], tmp_path: Path) -> None:
    url = served["OPENAI_BASE_URL"].removesuffix("/v1") + "/openapi.json"
    key = f"Authorization: Bearer {served['OPENAI_API_KEY']}"
    options = ("--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "-n", "40", "--seed", "1")
    done = run(served, "schemathesis", "run", url, "-H", key, *options, cwd=tmp_path)  # where it keeps its cache
    assert done.returncode == 0, done.stdout[-6000:]
