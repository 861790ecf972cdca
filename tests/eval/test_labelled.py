"""`eval score` with a file of questions of one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.eval.test_score_command import run
from tests.teams import scripted

QUESTIONS: list[dict[str, Any]] = [
    {"id": "colour", "question": "Which colour?", "answer": ["red", "crimson"], "kind": "text"},
    {"id": "count", "question": "How many?", "answer": 100, "kind": "number"},
    {"id": "letter", "question": "Which?", "choices": ["cat", "dog"], "answer": "B", "kind": "choice"},
    {"id": "text", "question": "Which?", "choices": ["cat", "dog"], "answer": "cat", "kind": "choice"},
    {"id": "open", "question": "Why?"},
]
REPLIES = {"colour": "Crimson.", "count": "104", "letter": "(B)", "text": "dog", "open": "Because."}


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def said(tmp_path: Path) -> str:
    path = tmp_path / "replies.json"
    path.write_text(json.dumps(REPLIES))
    return str(path)


def scored(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_gold_answers_decide_how_each_question_is_scored(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, said: str
) -> None:
    file = write(tmp_path / "questions.jsonl", QUESTIONS)
    options = ("--predictions", said, "--group-column", "kind")
    assert run(monkeypatch, "score", file, *options, "--json") == 0
    found = scored(capsys)
    assert found["grades"] == {"colour": 1, "count": 1, "letter": 1, "text": 0}
    assert found["notes"] == ["Metric: exact (1 questions), numeric (1 questions), choice (2 questions)."]
    assert found["unscored"] == 1
    means = {(one["group"], one["name"]): (one["accuracy"], one["total"]) for one in found["metrics"]}
    assert means == {
        ("overall", "Overall"): (0.75, 4),
        ("kind", "text"): (1, 1),
        ("kind", "number"): (1, 1),
        ("kind", "choice"): (0.5, 2),
    }
    assert run(monkeypatch, "score", file, *options) == 0
    printed = capsys.readouterr().out
    assert "Not scored: 1 questions without a gold answer" in printed
    assert "choice (2 questions)" in printed


def test_a_metric_for_all_and_another_column(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "questions.csv").write_text("id,question,gold\n1,Who?,abcx\n2,Who?,abcd\n")
    (tmp_path / "said.json").write_text('{"1": "abcd", "2": "abcd"}')
    arguments = (str(tmp_path / "questions.csv"), "--predictions", str(tmp_path / "said.json"), "--metric", "anls")
    assert run(monkeypatch, "score", *arguments, "--answer-column", "gold", "--json") == 0
    (overall,) = scored(capsys)["metrics"]
    assert overall["accuracy"] == 0.875
    assert overall["low"] < 0.875 < overall["high"]
    assert run(monkeypatch, "score", *arguments) == 2
    assert "no question has a gold answer" in capsys.readouterr().err


def test_parquet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = [{"id": str(number), "question": "How many?", "answer": number + 0.5} for number in range(20)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "questions.parquet")
    (tmp_path / "said.json").write_text(json.dumps({row["id"]: f"{row['answer']}" for row in rows}))
    arguments = (str(tmp_path / "questions.parquet"), "--predictions", str(tmp_path / "said.json"), "--json")
    assert run(monkeypatch, "score", *arguments) == 0
    found = scored(capsys)
    assert (found["metrics"][0]["accuracy"], found["notes"]) == (1, ["Metric: numeric (20 questions)."])


def test_the_answers_of_a_batch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = write(tmp_path / "questions.jsonl", QUESTIONS)
    with scripted({"one": ["Answer: red"]}, []) as colm:
        list(colm.batch(file, tmp_path / "run", strategy="vote"))
    assert run(monkeypatch, "score", file, "--predictions", str(tmp_path / "run"), "--json") == 0
    assert scored(capsys)["grades"] == {"colour": 1, "count": 0, "letter": 0, "text": 0}


def test_every_wrong_row_gets_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, said: str
) -> None:
    mistakes = {
        '{"question": "Which?", "answer": {"a": 1}}': "answer is {'a': 1}",
        '{"question": "Which?", "choices": ["cat", "dog"], "answer": "C"}': "answer 'C' is not one of its 2 options",
        '{"question": "Which?", "choices": ["cat", "dog"], "answer": 2}': "answer '2' is not one of its 2 options",
        '{"question": "Which?", "answer": true}': "answer is True",
        '{"question": "Which?", "answer": ["red", null]}': "answer is ['red', None]",
        '{"question": "Which?", "answer": [""]}': "answer is ['']",
        '{"question": "", "answer": "red"}': "the question is ''",
        '{"question": 7, "answer": "red"}': "the question is 7",
        '{"answer": "red"}': "the question is missing",
        "not JSON": "is not valid JSON",
        '["a list"]': "is a list, expected an object",
        '{"id": 1.5, "question": "Which?", "answer": "red"}': "the id is 1.5",
        '{"id": "fine", "question": "Which?", "answer": "red"}': "",
        '{"id": "fine", "question": "Which else?", "answer": "red"}': "the id 'fine' was used before",
        '{"question": "Which?", "choices": "cat", "answer": "A"}': "choices are 'cat'",
        '{"question": "Which?", "image": "a.png", "images": ["b.png"], "answer": "red"}': "both image and images",
    }
    (tmp_path / "questions.jsonl").write_text("\n".join(mistakes))
    assert run(monkeypatch, "score", str(tmp_path / "questions.jsonl"), "--predictions", said) == 2
    lines = capsys.readouterr().err.splitlines()
    expected = {number: part for number, part in enumerate(mistakes.values(), 1) if part}
    assert len(lines) == len(expected) == 15
    for line, (number, part) in zip(lines, expected.items(), strict=True):
        assert f"questions.jsonl, line {number}: {part}" in line


def test_check_finds_mistakes_of_every_kind_before_any_call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    many = json.dumps([str(number) for number in range(27)])
    mistakes = {
        '{"question": "Which?", "images": ["gone.png"], "answer": "red"}': "no such picture",
        '{"question": "Which?", "images": [7], "answer": "red"}': "a picture is 7",
        '{"question": "Which?", "images": [""], "answer": "red"}': "a picture is ''",
        '{"question": "Which?", "choices": ["cat"], "answer": "A"}': "1 choices given, expected none or 2 to 26",
        f'{{"question": "Which?", "choices": {many}, "answer": "A"}}': "27 choices given",
        '{"question": "Which?", "choices": ["cat", ""], "answer": "A"}': "one of the choices is empty",
        '{"question": "Which?", "choices": {"A": "cat"}, "answer": "A"}': "choices are {'A': 'cat'}",
        '{"question": "Which?", "choices": ["cat", "dog"], "answer": "cow"}': "answer 'cow' is not one of its",
        '{"question": "Which?", "answer": {"text": "red"}}': "answer is {'text': 'red'}",
        '{"question": "Which?", "answer": false}': "answer is False",
        '{"question": "\\ud800?", "answer": "red"}': "is not UTF-8 text",
        '{"question": null, "answer": "red"}': "the question is missing",
        '{"question": ["Which?"], "answer": "red"}': "the question is ['Which?']",
        '{"question": "Which?", "answer": "red"': "is not valid JSON",
        '"Which?"': "is a str, expected an object",
    }
    (tmp_path / "mine.jsonl").write_text("\n".join(mistakes))
    assert run(monkeypatch, "check", str(tmp_path / "mine.jsonl")) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(mistakes) == 15
    for number, (line, part) in enumerate(zip(lines, mistakes.values(), strict=True), 1):
        assert line.startswith(f"mine.jsonl, line {number}: ")
        assert part in line


def test_a_table_lists_answers_as_text_and_names_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "mine.tsv").write_text("key\tquery\tanswer\n1\tWhich?\t['red', 'crimson']\n2\tWhere?\t[1, 2]\n")
    (tmp_path / "said.json").write_text('{"1": "crimson", "2": "[1, 2]"}')
    arguments = (str(tmp_path / "mine.tsv"), "--map", "id=key,question=query")
    assert run(monkeypatch, "check", *arguments) == 0
    assert "2 questions can be asked" in capsys.readouterr().out
    assert run(monkeypatch, "score", *arguments, "--predictions", str(tmp_path / "said.json"), "--json") == 0
    assert scored(capsys)["grades"] == {"1": 1, "2": 1}


def test_missing_predictions_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = write(tmp_path / "questions.jsonl", QUESTIONS)
    (tmp_path / "said.json").write_text('{"colour": "red"}')
    arguments = ("score", file, "--predictions", str(tmp_path / "said.json"))
    assert run(monkeypatch, *arguments) == 2
    assert "3 of 4 questions have no prediction, the first: 'count'" in " ".join(capsys.readouterr().err.split())
    assert run(monkeypatch, *arguments, "--partial", "--json") == 0
    assert scored(capsys)["missing"] == ["count", "letter", "text"]


def test_a_benchmark_needs_its_gold_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], said: str
) -> None:
    assert run(monkeypatch, "score", "gsm8k", "--predictions", said) == 2
    assert "--gold is missing" in capsys.readouterr().err


def test_check_says_what_it_understood_and_what_it_would_cost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = write(tmp_path / "questions.jsonl", QUESTIONS)
    assert run(monkeypatch, "check", file, "--group-column", "kind", "--strategies", "vote") == 0
    printed = capsys.readouterr().out
    for said in (
        "5 questions can be asked; 0 rows cannot be used",
        "gold answers: 4, in column answer; 1 questions without one",
        "metric: exact (1 questions), numeric (1 questions), choice (2 questions); decided by the gold answers",
        "group column kind: 3 values",
        "15 calls",
    ):
        assert said in printed


def test_check_names_pictures_that_are_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rows: list[dict[str, Any]] = [
        {"question": "Which?", "images": ["absent.png"], "answer": "x"},
        {"question": "Which?", "answer": {}},
        {"question": "Which?", "images": ["data:image/png;base64,!!!"], "answer": "x"},
    ]
    assert run(monkeypatch, "check", write(tmp_path / "questions.jsonl", rows)) == 2
    printed = capsys.readouterr()
    first, second, third = printed.err.splitlines()
    assert "questions.jsonl, line 1: no such picture" in first
    assert "questions.jsonl, line 2: answer is {}" in second
    assert "questions.jsonl, line 3: the data URI" in third
    assert "0 questions can be asked; 3 rows cannot be used" in printed.out


def test_a_function_that_raises_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, said: str
) -> None:
    file = write(tmp_path / "questions.jsonl", QUESTIONS)
    assert run(monkeypatch, "score", file, "--predictions", said, "--metric", "json:loads") == 2
    assert "metric 'json:loads' raised TypeError" in capsys.readouterr().err


def test_a_group_column_that_no_row_has_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, said: str
) -> None:
    file = write(tmp_path / "questions.jsonl", QUESTIONS)
    assert run(monkeypatch, "score", file, "--predictions", said, "--group-column", "knid") == 2
    assert "no column is called 'knid'" in capsys.readouterr().err
