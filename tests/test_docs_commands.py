"""The commands of README.md and docs/first-steps.md are run, in a temporary folder, and print what the pages say.

Commands for the pocket team are run in this process, so that torch is imported once. Those for a team of one's own are
run in processes of their own, with endpoints on loopback in place of Ollama and vLLM.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from colm_vl.cli import app
from tests.endpoint import Endpoint, Reply

ROOT = Path(__file__).parents[1]
README, FIRST_STEPS = (ROOT / name for name in ("README.md", "docs/first-steps.md"))
NOT_RUN = {
    "make ": "installs packages",
    "pip install ": "installs packages",
    "source ": "the tests have their own environment",
    "ollama pull ": "downloads models",
    "colm-vl serve ": "runs until it is ended; examples/service.py runs it",
    "colm-vl page ": "runs until it is ended; tests/demos runs it",
}
"""Beginnings of the commands that are not run, with the reason."""
REPLY = (
    '{"caption": "two bars", "answer": "left", "confidence": 90, '
    '"evidence": "the left bar ends higher", "disagreement": "none", "check": "the axis"}'
)
"""Has the fields of every stage."""
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    return [text for found, text in _BLOCK.findall(page.read_text("utf-8")) if found == language]


def commands(page: Path, *, team: bool) -> list[list[str]]:
    """The commands to run: those with a team file, or those for the pocket team."""
    known = ("colm-vl ", *NOT_RUN)
    lines = [line for text in blocks(page, "") if text.startswith(known) for line in text.splitlines()]
    assert [line for line in lines if not line.startswith(known)] == [], "run these, or list them in NOT_RUN"
    wanted = [shlex.split(line, comments=True) for line in lines if not line.startswith(tuple(NOT_RUN))]
    return [words for words in wanted if ("team.toml" in words) == team]


@contextmanager
def team_of(page: Path, folder: Path) -> Iterator[Endpoint]:
    """Write the page's team file, with an endpoint on loopback as every member."""
    (text,) = (text for text in blocks(page, "toml") if "[[clients]]" in text)
    with Endpoint(Reply(REPLY)) as endpoint:
        (folder / "team.toml").write_text(re.sub(r'(base_url = )"[^"]*"', rf'\1"{endpoint.base_url}"', text), "utf-8")
        yield endpoint


def run(words: Sequence[str], folder: Path) -> str:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "PYTHONIOENCODING": "utf-8",
        "GPU_BOX_KEY": "any",
    }
    command = [sys.executable, *(["-m", "colm_vl.cli", *words[1:]] if words[0] == "colm-vl" else words)]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", check=False, timeout=120
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("page", [README, FIRST_STEPS], ids=lambda page: page.name)
def test_commands_with_a_team_of_ones_own(page: Path, tmp_path: Path) -> None:
    shutil.copy(ROOT / "docs/examples/rentals.png", tmp_path / "chart.png")
    shutil.copy(ROOT / "docs/examples/rentals.png", tmp_path / "q3.png")
    (tmp_path / "questions.jsonl").write_text('{"question": "Which bar?", "images": ["chart.png"], "answer": "left"}\n')
    with team_of(page, tmp_path) as endpoint:
        printed = {words[1]: run(words, tmp_path) for words in commands(page, team=True)}
        (program,) = (text for text in blocks(page, "python") if "team.toml" in text)
        (tmp_path / "program.py").write_text(program)
        assert "left" in run(["program.py"], tmp_path)
    assert {"team", "ask"} <= printed.keys()
    assert "Answer: left" in printed["ask"]
    assert all(seen.path.endswith("/chat/completions") for seen in endpoint.seen if seen.pictures)
    if page == README:
        assert '"answer":"left"' in (tmp_path / "runs/charts/answers.jsonl").read_text("utf-8")
        assert {"vote", "server", "colm"} <= set(re.findall(r"\w+", printed["eval"]))


def test_commands_for_the_pocket_team_print_what_the_page_shows(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs/examples", tmp_path / "docs/examples")
    first, vote, server = commands(FIRST_STEPS, team=False)
    with chdir(tmp_path):
        printed = [CliRunner(env={"COLUMNS": "80"}).invoke(app, words[1:]).output for words in (first, vote, server)]
    (shown,) = (text for text in blocks(FIRST_STEPS, "") if text.startswith("The pocket team answers"))
    assert facts(printed[0]) == facts(shown)
    assert "Answer: 9" in printed[1]
    assert "Answer: 6" in printed[2]


def facts(output: str) -> list[str]:
    """The lines in any order within the stages, which is that in which replies arrive, and without times."""
    lines = [" ".join(re.sub(r"\d+\.\d s", "… s", line).split()) for line in output.splitlines()]
    return sorted(line for line in lines if line and "… s" not in line and "cached" not in line)
