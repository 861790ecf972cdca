"""The command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CLIENT = """
[[clients]]
name = "{name}"
specialty = "{name} things"
backend = "scripted"
model = "script"
replies = {replies}
"""
SERVER = '[server]\nbackend = "scripted"\nmodel = "script"\nreplies = ["Evidence: five\\nCheck: count again"]\n'


@pytest.fixture
def team(tmp_path: Path) -> Path:
    file = tmp_path / "team.toml"
    near = CLIENT.format(name="near", replies='["Caption: \\u001b[31m[bold]dots[/bold]\\nAnswer: 4", "Answer: 5"]')
    file.write_text(near + CLIENT.format(name="far", replies='["Answer: 5"]') + SERVER)
    return file


def colm_vl(*arguments: object, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "colm_vl.cli", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)


def test_ask_shows_every_stage_and_the_answer(team: Path, dots_png: bytes, tmp_path: Path) -> None:
    picture = tmp_path / "dots.png"
    picture.write_bytes(dots_png)
    done = colm_vl("ask", "-q", "How many?", "--image", picture, "--team", team)
    assert done.returncode == 0, done.stderr
    for shown in (
        "Drafts",
        "near",
        "far",
        "Guidance",
        "Evidence: five",
        "4 → 5",
        "changed",
        "kept",
        "Answer: 5",
        "tokens",
    ):
        assert shown in done.stdout
    assert "[bold]dots[/bold]" in done.stdout  # a model's markup is text
    assert "\x1b" not in done.stdout  # and its control characters do not reach the terminal


def test_json_is_the_only_output(team: Path) -> None:
    done = colm_vl("ask", "-q", "-", "--team", team, "--json", "-c", "four", "-c", "5", stdin="How many?\n")
    trace = json.loads(done.stdout)
    assert (trace["question"].strip(), trace["answer"], trace["choice"]) == ("How many?", "5", "B")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-q", " "], 2, "the question is empty"),
        (["-q", "x", "--image", "none.png"], 2, "none.png"),
        (["-q", "x", "--strategy", "debate"], 2, "unknown strategy 'debate'"),
        (["-q", "x", "--client", "nobody"], 2, "no client is called 'nobody'"),
        (["-q", "x", "--gate", "confidence=7"], 2, "a confidence from 0 to 1"),
        (["-q", "x", "--share", "all"], 2, "'images', 'thumbnails' or 'captions'"),
        (["-q", "x", "-c", "only"], 2, "1 choices given"),
        ([], 2, "Missing option"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(team: Path, arguments: list[str], code: int, message: str) -> None:
    done = colm_vl("ask", *arguments, "--team", team)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    if arguments:
        assert len(done.stderr.strip().splitlines()) == 1
    assert not done.stdout


def test_no_answer_is_exit_code_1(team: Path) -> None:
    team.write_text(
        CLIENT.format(name="near", replies='[{ error = "refused", text = "bad key" }]') + SERVER, encoding="utf-8"
    )
    done = colm_vl("ask", "-q", "How many?", "--team", team)
    assert done.returncode == 1
    assert "bad key" in done.stderr
    assert colm_vl("ask", "-q", "How many?", "--team", team, "--json").returncode == 1


def test_team_check_reports_failures_with_hints(team: Path) -> None:
    assert colm_vl("team", "check", team).returncode == 0
    text = team.read_text(encoding="utf-8") + "[policy]\ntop_k = 1\n"
    broken = '[{ error = "model_not_found", text = "no model x" }]'
    team.write_text(CLIENT.format(name="gone", replies=broken) + text, encoding="utf-8")
    done = colm_vl("team", "check", team)
    assert done.returncode == 1
    assert "gone" in done.stdout
    assert "no model x" in " ".join(done.stdout.split())
    assert "yes" in done.stdout


def test_team_check_prints_json_and_nothing_else(team: Path) -> None:
    broken = '[{ error = "model_not_found", text = "no model x" }]'
    team.write_text(CLIENT.format(name="gone", replies=broken) + team.read_text(encoding="utf-8"), encoding="utf-8")
    done = colm_vl("team", "check", team, "--json")
    assert (done.returncode, done.stderr) == (1, "")
    gone, *others = json.loads(done.stdout)
    assert (gone["member"], gone["works"], gone["problem"]) == ("gone", False, "no model x")
    assert all(row["works"] and row["first_token_seconds"] is not None for row in others)
    assert others[-1]["role"] == "server"


def test_help_has_examples_and_is_fast() -> None:
    done = colm_vl("ask", "--help")
    assert done.returncode == 0
    for shown in ("--strategy", "self_consistency", "How many red circles?"):
        assert shown in done.stdout
