"""The commands `score` and `list`, and their output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eval import cli


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["eval", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


@pytest.fixture
def gold(tmp_path: Path) -> Path:
    path = tmp_path / "gold.json"
    entries = {
        f"validation_Math_{number}": {"question_type": "multiple-choice", "ground_truth": "B"} for number in (1, 2)
    }
    path.write_text(json.dumps(entries | {"validation_Art_1": {"question_type": "short-answer", "ground_truth": "7"}}))
    return path


def write(path: Path, data: Any) -> str:
    path.write_text(json.dumps(data), encoding="utf-8")
    return str(path)


def test_scores_as_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], gold: Path, tmp_path: Path
) -> None:
    said = write(tmp_path / "p.json", {"validation_Math_1": "B", "validation_Math_2": "A", "validation_Art_1": "is 7"})
    assert run(monkeypatch, "score", "mmmu", "--gold", str(gold), "--predictions", said, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    metrics = {metric["name"]: (metric["correct"], metric["total"]) for metric in printed["metrics"]}
    assert metrics == {
        "Overall": (2, 3),
        "Art and Design": (1, 1),
        "Art": (1, 1),
        "Science": (1, 2),
        "Math": (1, 2),
    }
    assert printed["rule"] == "strict"


@pytest.mark.parametrize(
    ("predictions", "told"),
    [
        ({"validation_Math_1": "B"}, "2 of 3 questions have no prediction, the first: 'validation_Math_2'"),
        ({"validation_Math_9": "B"}, "1 predictions for unknown questions, the first: 'validation_Math_9'"),
        ([{"id": "validation_Math_1", "response": "B"}] * 2, "two predictions for 'validation_Math_1'"),
        ([{"name": "x"}], "row 1: needs an id"),
        ([1, 2], "row 1: '1' is not a row"),
        ([None], "row 1: 'None' is not a row"),
        (["I did"], "row 1: 'I did' is not a row"),
        ([{"id": "x", "response": "B", "index2ans": ["cat"]}], "row 1: index2ans is a list, expected letter → option"),
        ({"outputs": {"1": "B"}, "results": [1]}, "`results` is a list, expected id → index"),
        ({}, "expected predictions by id"),
        (
            {"validation_Math_1": "The answer is B", "validation_Math_2": "A", "validation_Art_1": ""},
            "its options are not known",
        ),
    ],
)
def test_refuses_what_cannot_be_scored(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    gold: Path,
    tmp_path: Path,
    predictions: Any,
    told: str,
) -> None:
    said = write(tmp_path / "p.json", predictions)
    assert run(monkeypatch, "score", "mmmu", "--gold", str(gold), "--predictions", said) == 2
    error = capsys.readouterr().err
    assert told in error
    assert len(error.splitlines()) == 1


def test_partial_results_are_marked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], gold: Path, tmp_path: Path
) -> None:
    said = write(tmp_path / "p.json", {"validation_Math_1": "B"})
    arguments = ("score", "mmmu", "--gold", str(gold), "--predictions", said, "--partial")
    assert run(monkeypatch, *arguments) == 0
    assert "Partial: 1 of 3 questions have a prediction (33.3%)" in capsys.readouterr().out.replace("\n", " ")


@pytest.mark.parametrize("arguments", [("score", "mmmuu"), ("score", "mmmu", "--rule", "llava")])
def test_unknown_benchmark_or_rule(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    gold: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
) -> None:
    said = write(tmp_path / "p.json", {"validation_Math_1": "B", "validation_Math_2": "A", "validation_Art_1": "7"})
    assert run(monkeypatch, *arguments, "--gold", str(gold), "--predictions", said) == 2
    assert "one of: " in capsys.readouterr().err


def test_list_names_every_benchmark(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run(monkeypatch, "list") == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("mmmu", "scienceqa"))


def gsm8k(path: Path, **more: str) -> str:
    rows = [{"id": str(number), "question": "?", "answer": f"#### {number}", **more} for number in range(3)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


def test_gold_is_never_scored_against_gold(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    gold = gsm8k(tmp_path / "gold.jsonl")
    said = gsm8k(tmp_path / "said.jsonl", generated_text="I do not know")
    assert run(monkeypatch, "score", "gsm8k", "--gold", gold, "--predictions", said, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["metrics"][0]["correct"], printed["reply_column"]) == (0, "generated_text")
    assert run(monkeypatch, "score", "gsm8k", "--gold", gold, "--predictions", said) == 0
    assert "Replies: column generated_text" in capsys.readouterr().out
    copy = gsm8k(tmp_path / "copy.jsonl")
    for path in (gold, copy):
        for column in ((), ("--reply-column", "answer")):
            assert run(monkeypatch, "score", "gsm8k", "--gold", gold, "--predictions", path, *column) == 2
            assert "gold answers" in capsys.readouterr().err


def test_one_file_may_hold_gold_and_replies(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    both = gsm8k(tmp_path / "both.jsonl", mine="#### 2")
    arguments = ("score", "gsm8k", "--gold", both, "--predictions", both, "--reply-column", "mine", "--json")
    assert run(monkeypatch, *arguments) == 0
    assert json.loads(capsys.readouterr().out)["metrics"][0]["correct"] == 1


@pytest.mark.parametrize(("reply", "told"), [("C", True), ("The answer is B", False)])
def test_bare_letters_are_noted_because_draws_cannot_be_detected(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    gold: Path,
    tmp_path: Path,
    reply: str,
    told: bool,
) -> None:
    options = {"index2ans": {"A": "cat", "B": "dog", "C": "cow"}}
    rows = [
        {"id": "validation_Math_1", "response": reply, **options},
        {"id": "validation_Math_2", "response": "B", **options},
        {"id": "validation_Art_1", "response": "7"},
    ]
    said = write(tmp_path / "p.json", rows)
    assert run(monkeypatch, "score", "mmmu", "--gold", str(gold), "--predictions", said, "--json") == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert any("only reason why strict equals official" in note for note in notes) is told
