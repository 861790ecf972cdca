"""The command `compare`: two runs, the strategies of one, predictions beside a run, and conditions on accuracies."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.eval import published
from tests.eval.test_score_command import run

Command = Callable[..., int]
QUESTIONS = 10
TEAM = """
[[clients]]
name = "one"
backend = "scripted"
model = "script"
replies = [{{ when = "Guidance from", text = "Answer: {refined}" }}, {{ when = "Number 0:", text = "Answer: blue" }},
    "Answer: {draft}"]

[server]
backend = "scripted"
model = "script"
replies = ["Evidence: it is there\\nDisagreement: two answers\\nCheck: all"]
"""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs in an empty folder with `mine.jsonl`, ten questions whose answer is "red"."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    write("mine.jsonl", questions())
    return partial(run, monkeypatch)


def questions(**more: Any) -> list[dict[str, Any]]:
    return [{"id": f"q{n}", "question": f"Number {n}: which?", "answer": "red", **more} for n in range(QUESTIONS)]


def write(name: str, rows: list[dict[str, Any]]) -> None:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def evaluate(command: Command, out: str, draft: str, refined: str, file: str = "mine.jsonl", *more: str) -> None:
    """Drafts are `draft`, but "blue" for question q0; refinements are all `refined`."""
    Path("team.toml").write_text(TEAM.format(draft=draft, refined=refined), encoding="utf-8")
    strategies = ("--strategies", "vote,colm")
    assert command("run", file, "--team", "team.toml", *strategies, "--out", out, *more) == 0


def test_two_runs_are_compared_strategy_by_strategy(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(command, "runs/a", "red", "red")
    write("longer.jsonl", [*questions(), {"id": "q99", "question": "More?", "answer": "red"}])
    evaluate(command, "runs/b", "red", "green", "longer.jsonl")
    capsys.readouterr()
    assert command("compare", "runs/a", "runs/b", "--json", "--out", "report") == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads(Path("report/comparison.json").read_text(encoding="utf-8"))
    assert found["runs"] == {"a": "a", "b": "b"}
    assert found["only"] == {"a": [], "b": ["q99"]}
    vote, colm = found["comparisons"]
    assert (vote["one"], vote["other"], vote["items"], vote["changes"]) == ("b.vote", "a.vote", QUESTIONS, [])
    assert (colm["wins"], colm["losses"], colm["difference"]) == (0, QUESTIONS, -1)
    assert colm["interval"] == {"low": -1, "high": -1}
    assert (colm["p"], colm["p_adjusted"]) == (pytest.approx(2 / 2**QUESTIONS), pytest.approx(4 / 2**QUESTIONS))
    assert colm["changes"][3] == {
        "id": "q3",
        "question": "Number 3: which?",
        "options": [],
        "gold": ["red"],
        "other": {"answer": "red", "grade": 1},
        "one": {"answer": "green", "grade": 0},
    }
    for name in ("comparison.md", "comparison.html"):
        text = Path("report", name).read_text(encoding="utf-8")
        assert "Only b has 1 questions, which are left out; the first: q99." in text
        assert "Number 3: which?" in text
    assert "| q3 | Number 3: which? | red | red | green | 1 → 0 |" in Path("report/comparison.md").read_text(
        encoding="utf-8"
    )
    assert command("compare", "runs/a", "runs/b", "--strategies", "vote=colm") == 0
    printed = capsys.readouterr().out
    assert "b.colm vs. a.vote" in printed
    assert "Different answers with the same grade: 1" in printed  # q0: blue, then green
    assert "In no comparison: a.colm, b.vote." in printed


def test_questions_with_another_picture_are_told(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    write("seen.jsonl", [row | {"images": [f"{row['id']}.png"]} for row in questions()])
    for out, changed in {"runs/a": "white", "runs/b": "black"}.items():
        for n in range(QUESTIONS):
            Image.new("RGB", (8, 8), changed if n == 4 else "white").save(f"q{n}.png")
        evaluate(command, out, "red", "red", "seen.jsonl")
    capsys.readouterr()
    assert command("compare", "runs/a", "runs/b", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["other_pictures"] == ["q4"]
    assert command("compare", "runs/a", "runs/b") == 0
    assert "The pictures of 1 questions are not the same in both; the first: q4." in capsys.readouterr().out


def test_strategies_of_one_run_are_compared(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(command, "runs/a", "red", "red")
    capsys.readouterr()
    assert command("compare", "runs/a", "--json") == 0
    (pair,) = json.loads(capsys.readouterr().out)["comparisons"]
    assert (pair["one"], pair["other"], pair["wins"], pair["losses"]) == ("colm", "vote", 1, 0)
    assert [change["id"] for change in pair["changes"]] == ["q0"]


def test_predictions_of_any_program_are_compared_with_a_run(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(command, "runs/a", "red", "red")
    rows = [{"id": f"q{n}", "prediction": "red" if n < 5 else "blue"} for n in range(1, QUESTIONS)]
    write("other.jsonl", [*rows, {"id": "q99", "prediction": "red"}])
    capsys.readouterr()
    assert command("compare", "runs/a", "other.jsonl", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["only"] == {"a": ["q0"], "b": ["q99"]}
    vote, colm = found["comparisons"]
    assert (vote["one"], vote["other"]) == ("b", "a.vote")
    assert (colm["items"], colm["wins"], colm["losses"]) == (QUESTIONS - 1, 0, 5)
    write("named.jsonl", [{"id": row["id"], "mine": row["prediction"]} for row in rows])
    assert command("compare", "runs/a", "named.jsonl", "--reply-column", "mine", "--json") == 0
    assert json.loads(capsys.readouterr().out)["comparisons"][1]["losses"] == 5
    assert command("compare", "other.jsonl", "runs/a", "--strategies", "colm", "--fail-if", "b.colm > a + 55") == 1
    error = capsys.readouterr().err
    assert error == "--fail-if b.colm > a + 55: holds (100.00 and 99.44 on 9 questions)\n"


@pytest.mark.parametrize(
    ("condition", "code", "figures"),
    [
        ("vote < colm - 9", 1, "90.00 and 91.00"),
        ("vote < colm - 10", 0, ""),
        ("vote <= colm - 10", 1, "90.00 and 90.00"),
        ("colm +0.5>vote", 1, "100.50 and 90.00"),
        ("vote < 90.5", 1, "90.00 and 90.50"),
        ('90 >= "vote"', 1, "90.00 and 90.00"),
        ("colm < 100", 0, ""),
    ],
)
def test_a_condition_that_holds_ends_with_one_and_says_the_figures(
    command: Command, capsys: pytest.CaptureFixture[str], condition: str, code: int, figures: str
) -> None:
    evaluate(command, "runs/a", "red", "red")
    capsys.readouterr()
    assert command("compare", "runs/a", "--fail-if", "vote > 95", "--fail-if", condition, "--json") == code
    said = capsys.readouterr()
    told = f"--fail-if {condition}: holds ({figures} on {QUESTIONS} questions)\n" if code else ""
    assert said.err == told
    assert [one["held"] for one in json.loads(said.out)["conditions"]] == [False, bool(code)]


@pytest.mark.parametrize(
    "condition",
    [
        "",
        "colm",
        "colm <",
        "colm = 80",
        "colm == vote",
        "colm < vote < 3",
        "1 < 2",
        "colm < vote - x",
        "colm < 2 * vote",
    ],
)
def test_a_bad_condition_is_refused_in_one_line(
    command: Command, capsys: pytest.CaptureFixture[str], condition: str
) -> None:
    assert command("compare", "runs/a", "--fail-if", condition) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"--fail-if {condition!r} is not a condition" in line


def test_a_condition_with_an_unknown_name_is_refused(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(command, "runs/a", "red", "red")
    capsys.readouterr()
    assert command("compare", "runs/a", "--fail-if", "colm < vote-1") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "nothing is called 'vote-1' (one of: vote, colm;" in line


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"answer": "blue"}, "'q0': gold is ('red',) in a, ('blue',) in b"),
        ({"question": "What?"}, "'q0': question is 'Number 0: which?' in a, 'What?' in b"),
        ({"choices": ["red", "blue"]}, "'q0': options is () in a, ('red', 'blue') in b"),
        ({"id": "x"}, "no question is in both; b has, for instance, 'x'"),
    ],
)
def test_different_questions_are_refused(
    command: Command, capsys: pytest.CaptureFixture[str], change: dict[str, Any], told: str
) -> None:
    evaluate(command, "runs/a", "red", "red")
    rows = questions(**change)
    write("changed.jsonl", rows if "id" not in change else rows[:1])
    evaluate(command, "runs/b", "red", "red", "changed.jsonl")
    capsys.readouterr()
    assert command("compare", "runs/a", "runs/b") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


def test_what_cannot_be_compared_is_refused(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(command, "runs/a", "red", "red")
    evaluate(command, "runs/anls", "red", "red", "mine.jsonl", "--metric", "anls")
    Path("team.toml").write_text(TEAM.format(draft="red", refined="red"), encoding="utf-8")
    data = str(published.gsm8k(Path()))
    asked = ("--team", "team.toml", "--strategies", "solo:one", "--out", "runs/gsm8k")
    assert command("run", "gsm8k", "--data", data, *asked) == 0
    write("other.jsonl", [{"id": "x", "prediction": "red"}])
    refused = {
        ("runs/a", "runs/anls"): "metric is 'exact' in a, 'anls' in b (run both with the same --metric",
        ("runs/a", "runs/gsm8k"): "the runs are of different benchmarks: a of 'mine.jsonl' and gsm8k of 'gsm8k' (test)",
        ("runs/a", "other.jsonl"): "no question is in both; b has, for instance, 'x'",
        ("other.jsonl", "mine.jsonl"): "other.jsonl: no evaluation in this folder",
        ("runs/a", "runs/a"): "is given twice",
        ("runs/a", "--strategies", "server"): "no strategy 'server' (one of: vote, colm)",
        ("runs/a", "runs/b", "runs/c"): "3 runs, expected one or two",
    }
    capsys.readouterr()
    for arguments, told in refused.items():
        assert command("compare", *arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert told in line
