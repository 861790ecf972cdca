"""The output and exit status of `colm-vl batch`."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from colm_vl import cli
from colm_vl.batch.planning import Plan, PlannedCall
from colm_vl.batch.progress import BatchProgress, batch_summary
from colm_vl.batch.stats import BatchStats
from colm_vl.types import Usage

TEAM = """
[[clients]]
name = "near"
backend = "scripted"
model = "m"
replies = [{ when = "lost", error = "unreachable" }, "Caption: dots\\nAnswer: 5"]

[[clients]]
name = "far"
backend = "scripted"
model = "m"
replies = [{ when = "lost", error = "unreachable" }, "Caption: dots\\nAnswer: 5"]

[server]
backend = "scripted"
model = "m"
replies = ["Evidence: dots"]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("team.toml").write_text(TEAM, encoding="utf-8")
    Path("q.jsonl").write_text('{"question": "How many?"}\n{"question": "How many now?"}\n', encoding="utf-8")
    return tmp_path


def _batch(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["colm-vl", "batch", "--team", "team.toml", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_all_answered(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert _batch(monkeypatch, "q.jsonl", "--out", "out") == 0
    out, err = capsys.readouterr()
    assert "2 of 2 answered, 0 failed" in out
    assert "10 calls made, 0 avoided" in out
    assert "2 of 2 done" in err
    assert _batch(monkeypatch, "q.jsonl", "--out", "out") == 0
    assert "from an earlier run: 2" in capsys.readouterr().out


def test_some_failed(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "q.jsonl").write_text('{"question": "How many?"}\n{"question": "What was lost?"}\n')
    assert _batch(monkeypatch, "q.jsonl", "--out", "out", "--strategy", "solo,colm") == 1
    assert "2 of 4 answered, 2 failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gone.jsonl", "--out", "out"], "gone.jsonl: no such file"),
        (["q.jsonl"], "--out is missing"),
        (["q.jsonl", "--out", "team.toml"], "team.toml: cannot be used"),
        (["q.jsonl", "--out", "out", "--strategy", "vote,nonsense"], "unknown strategy 'nonsense'"),
        (["q.jsonl", "--out", "made", "--rounds", "2"], "policy.rounds: 1 → 2"),
    ],
)
def test_bad_input(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    _batch(monkeypatch, "q.jsonl", "--out", "made")
    assert _batch(monkeypatch, *arguments) == 2
    assert said in capsys.readouterr().err


def test_a_dry_run_calls_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _batch(monkeypatch, "q.jsonl", "--strategy", "vote,colm", "--dry-run", "--out", "out") == 0
    out = capsys.readouterr().out
    assert "at most 10 calls" in out
    assert "prompt tokens" in out
    assert not (folder / "out").exists()


def test_a_dry_run_counts_what_a_run_would_find_in_damaged_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _batch(monkeypatch, "q.jsonl", "--out", "out")
    for name in ("answers.jsonl", "traces.jsonl"):
        path = folder / "out" / name
        first, second = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(first + b"\0\0\0\n" + second[:50])
    capsys.readouterr()
    assert _batch(monkeypatch, "q.jsonl", "--out", "out", "--dry-run") == 0
    assert "answered already: 1 (their calls are not repeated)" in capsys.readouterr().out
    assert _batch(monkeypatch, "q.jsonl", "--out", "out") == 0
    assert "from an earlier run: 1" in capsys.readouterr().out


def test_fresh_keeps_the_old_content(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _batch(monkeypatch, "q.jsonl", "--out", "out")
    assert _batch(monkeypatch, "q.jsonl", "--out", "out", "--rounds", "2", "--fresh") == 0
    assert "moved to out.1" in capsys.readouterr().err
    assert json.loads((folder / "out.1" / "run.json").read_text())["settings"]["policy"]["rounds"] == 1


def test_progress_in_a_terminal_has_a_bar_for_each_stage() -> None:
    stats = BatchStats(total=10, answered=3, failed=1, usage=Usage(50, 0, 50), notes=["something was found"])
    stats.stage("draft").made = 8
    stats.stage("guide").failed = 2
    calls = {PlannedCall("draft", "near"): 20, PlannedCall("guide", "server"): 10}
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=160)
    with BatchProgress(console, stats, Plan(10, 0, ("colm",), calls, Usage())):
        pass
    shown = screen.getvalue()
    for text in (
        "answers",
        "4/10",
        "drafts",
        "8/20",
        "guidance",
        "2/10",
        "2 failed",
        "something was found",
        "tokens/s",
    ):
        assert text in shown


def test_the_summary_counts_failures_among_the_total() -> None:
    stats = BatchStats(total=5, kept=2, answered=1, degraded=1, failed=2)
    assert batch_summary(stats, 1.0).startswith(
        "3 of 5 answered, 2 failed; 1 degraded by failed calls\nfrom an earlier run: 2"
    )
