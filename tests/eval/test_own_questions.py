"""A file of one's own questions through the commands `check`, `run`, `report` and `score`, from an empty folder."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from colm_vl import merge_shards
from tests.eval.test_score_command import run

TEAM = """
[[clients]]
name = "one"
backend = "scripted"
model = "script"
replies = [{ when = "Guidance from", text = "Answer: RIGHT" }, "Answer: WRONG"]

[[clients]]
name = "two"
backend = "scripted"
model = "script"
replies = ["Answer: RIGHT"]

[server]
backend = "scripted"
model = "script"
replies = ["Evidence: it is there\\nDisagreement: two answers\\nCheck: all"]
"""
ROWS = 20
Command = Callable[..., int]
FOUR_ANNOTATORS = ["a red bus"] * 4 + ["blue"] * 6
GOLDS: dict[str, tuple[dict[str, Any], str, str, float]] = {
    "text": ({"answer": "red"}, "Red.", "blue", 1),
    "list": ({"answer": ["red", "crimson"]}, "crimson", "blue", 1),
    "letter": ({"answer": "B", "choices": ["bus", "car"]}, "car", "bus", 1),
    "number": ({"answer": 100}, "104", "90", 1),
    "annotators": ({"answer": FOUR_ANNOTATORS}, "red bus", "green", 1),
}
"""Kind of gold answer → its row, a right reply, a wrong one, and the grade of the right one."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    Image.new("RGB", (40, 30), "red").save(tmp_path / "bus.png")
    return tmp_path


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Command:
    return partial(run, monkeypatch)


def rows(kind: str) -> list[dict[str, Any]]:
    given = GOLDS[kind][0]
    place = ("street", "garage")
    return [
        {"id": f"q{n}", "question": f"Number {n}: which?", "images": ["bus.png"], "place": place[n % 2], **given}
        for n in range(ROWS)
    ]


def team(right: str, wrong: str) -> str:
    Path("team.toml").write_text(TEAM.replace("RIGHT", right).replace("WRONG", wrong), encoding="utf-8")
    return "team.toml"


@pytest.mark.parametrize("kind", GOLDS)
def test_every_kind_of_gold_answer_goes_the_whole_way(
    here: Path, command: Command, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    _, right, wrong, grade = GOLDS[kind]
    Path("mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(kind)), encoding="utf-8")
    groups = ("--group-column", "place")
    members = ("--team", team(right, wrong))
    assert command("check", "mine.jsonl", *groups, *members) == 0
    assert f"{ROWS} questions can be asked; 0 rows cannot be used" in capsys.readouterr().out
    strategies = ("--strategies", "solo:one,colm")
    assert command("run", "mine.jsonl", *groups, *members, *strategies, "--out", "runs/mine") == 0
    assert command("report", "runs/mine", "--out", "report") == 0
    found = json.loads(Path("report/report.json").read_text(encoding="utf-8"))["runs"][0]
    assert found["benchmark"] == "mine.jsonl"
    assert {one["name"]: one["accuracy"] for one in found["strategies"]} == {"solo:one": 0, "colm": grade}
    results = found["strategies"][1]["rules"]["strict"]["metrics"]
    assert [(one["group"], one["name"], one["total"]) for one in results] == [
        ("overall", "Overall", ROWS),
        ("place", "street", ROWS // 2),
        ("place", "garage", ROWS // 2),
    ]
    assert found["strategies"][1]["flips"][0]["corrected"] == ROWS
    capsys.readouterr()
    assert command("score", "mine.jsonl", "--predictions", "runs/mine", "--strategy", "colm", "--json") == 0
    assert set(json.loads(capsys.readouterr().out)["grades"].values()) == {grade}


def test_csv_and_parquet_are_run_like_jsonl(here: Path, command: Command) -> None:
    table = [{key: value for key, value in row.items() if key != "images"} for row in rows("text")]
    with Path("mine.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, table[0])
        writer.writeheader()
        writer.writerows(table)
    pq.write_table(pa.Table.from_pylist(table), "mine.parquet")
    members = ("--team", team("Red.", "blue"), "--strategies", "vote")
    for name in ("mine.csv", "mine.parquet"):
        assert command("run", name, *members, "--out", f"runs/{name}") == 0
        assert command("report", f"runs/{name}", "--out", name + "-report") == 0
        found = json.loads(Path(name + "-report/report.json").read_text(encoding="utf-8"))["runs"][0]
        assert found["items"] == ROWS


def test_partial_credit_is_compared_and_another_metric_asks_nobody_again(here: Path, command: Command) -> None:
    Path("mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows("text")), encoding="utf-8")
    members = ("--team", team("reds", "blue"), "--strategies", "solo:one,colm")
    accuracies = {}
    for metric in ("exact", "anls"):
        assert command("run", "mine.jsonl", *members, "--out", "mine", "--metric", metric) == 0
        assert command("report", "mine", "--out", "report") == 0
        run = json.loads(Path("report/report.json").read_text(encoding="utf-8"))["runs"][0]
        accuracies[metric] = {one["name"]: one["accuracy"] for one in run["strategies"]}
        assert run["notes"] == [f"Metric: {metric} ({ROWS} questions)."]
    assert accuracies == {"exact": {"solo:one": 0, "colm": 0}, "anls": {"solo:one": 0, "colm": 0.75}}
    (pair,) = run["comparisons"]
    assert (pair["wins"], pair["losses"], pair["difference"]) == (ROWS, 0, 0.75)
    assert "paired t-test" in Path("report/report.md").read_text(encoding="utf-8")


def test_questions_without_gold_are_asked_and_not_scored(here: Path, command: Command) -> None:
    asked = [*rows("text"), {"id": "open", "question": "Why?"}]
    Path("mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked), encoding="utf-8")
    members = ("--team", team("Red.", "blue"), "--strategies", "vote,colm")
    assert command("run", "mine.jsonl", *members, "--out", "mine") == 0
    answers = [json.loads(line) for line in Path("mine/answers.jsonl").read_text(encoding="utf-8").splitlines()]
    assert sum(answer["id"] == "open" for answer in answers) == 2
    assert command("report", "mine", "--out", "report") == 0
    text = Path("report/report.md").read_text(encoding="utf-8")
    assert "Not scored: 1 questions without a gold answer." in text
    assert f"{ROWS} of {ROWS}" in text


def test_wrong_rows_are_named_before_any_call(here: Path, command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = [{"question": "Which?", "answer": {}}, {"question": "Which?", "images": ["no.png"], "answer": "a"}]
    Path("mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in wrong), encoding="utf-8")
    assert command("run", "mine.jsonl", "--team", team("a", "b"), "--out", "mine") == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "mine.jsonl, line 1: answer is {}" in first
    assert "mine.jsonl, line 2: no such picture" in second
    assert not Path("mine").exists()


def test_a_picture_that_cannot_be_opened_fails_its_question_only(here: Path, command: Command) -> None:
    Path("broken.png").write_bytes(b"no picture")
    asked = [*rows("text"), {"id": "broken", "question": "Which?", "images": ["broken.png"], "answer": "red"}]
    Path("mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked), encoding="utf-8")
    assert command("run", "mine.jsonl", "--team", team("red", "red"), "--strategies", "vote", "--out", "mine") == 0
    assert command("report", "mine", "--out", "report") == 0
    (found,) = json.loads(Path("report/report.json").read_text(encoding="utf-8"))["runs"][0]["strategies"]
    assert (found["failed"], found["accuracy"]) == (1, pytest.approx(ROWS / (ROWS + 1)))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("mmmu", "--metric", "anls"), "--metric and --group-column are for files of questions"),
        (("mine.jsonl", "--split", "test"), "--data, --split and --subjects are for published benchmarks"),
        (("absent.jsonl",), "absent.jsonl: no such file"),
        (("mine.jsonl", "--metric", "anlss"), "anlss"),
    ],
)
def test_options_that_do_not_apply_are_refused(
    here: Path,
    command: Command,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    told: str,
) -> None:
    Path("mine.jsonl").write_text(json.dumps(rows("text")[0]), encoding="utf-8")
    assert command("run", *arguments, "--team", team("a", "b"), "--out", "mine") == 2
    assert told in " ".join(capsys.readouterr().err.split())


def test_a_folder_holds_one_evaluation(here: Path, command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("mine.jsonl", "other.jsonl"):
        Path(name).write_text(json.dumps(rows("text")[0]), encoding="utf-8")
    options = ("--team", team("a", "b"), "--strategies", "vote", "--out", "mine")
    assert command("run", "mine.jsonl", *options) == 0
    assert command("run", "other.jsonl", *options) == 2
    assert "mine holds a run of 'mine.jsonl', not of 'other.jsonl'" in " ".join(capsys.readouterr().err.split())


def test_shards_are_scored_before_and_after_their_merge(here: Path, command: Command) -> None:
    Path("mine.jsonl").write_text("\n".join(map(json.dumps, rows("text"))), encoding="utf-8")
    members = team("red", "blue")
    asked = ("run", "mine.jsonl", "--team", members, "--strategies", "vote,colm")
    assert command(*asked, "--out", "whole") == 0
    for index in (1, 2, 3):
        assert command(*asked, "--out", "shards", "--shard", f"{index}/3") == 0

    def reported(folder: str) -> Any:
        assert command("report", folder, "--out", f"report-{folder}") == 0
        (found,) = json.loads(Path(f"report-{folder}", "report.json").read_text(encoding="utf-8"))["runs"]
        return [
            (one["name"], one["accuracy"], one["cost"]["calls"], one["cost"]["tokens"]) for one in found["strategies"]
        ]

    whole = reported("whole")
    assert reported("shards") == whole
    assert command("score", "mine.jsonl", "--predictions", "shards", "--strategy", "colm") == 0
    merge_shards("shards")
    assert reported("shards") == whole
    assert Path("shards/answers.jsonl").read_bytes() == Path("whole/answers.jsonl").read_bytes()


def test_a_report_has_the_pictures_of_a_column_with_another_name(here: Path, command: Command) -> None:
    renamed = {"id": "q", "query": "Which?", "picture": "bus.png", "answer": "red"}
    Path("mine.jsonl").write_text(json.dumps(renamed) + "\n", encoding="utf-8")
    asked = ("run", "mine.jsonl", "--map", "question=query,images=picture", "--team", team("red", "blue"))
    assert command(*asked, "--strategies", "vote", "--out", "mine") == 0
    assert command("report", "mine", "--out", "report") == 0
    page = Path("report/report.html").read_text(encoding="utf-8")
    assert "pictures are missing" not in page
    assert "data:image/" in page
