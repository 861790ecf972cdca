"""`colm_vl.evaluate`: one's own questions from Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from colm_vl import InputError, Query, Team, evaluate
from tests.eval.test_own_questions import TEAM

ROWS = [
    {"id": f"{n}", "question": f"Number {n}?", "answer": "red", "place": ("street", "garage")[n % 2]} for n in range(6)
]


@pytest.fixture
def team(tmp_path: Path) -> Path:
    path = tmp_path / "team.toml"
    path.write_text(TEAM.replace("RIGHT", "red").replace("WRONG", "blue"))
    return path


def test_a_file_gives_the_tables_of_the_report(tmp_path: Path, team: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    report = evaluate(file, team=team, strategies=["solo:one", "colm"], group_columns=["place"])
    assert report.accuracies == {"solo:one": 0, "colm": 1}
    results = report.results().set_index("strategy")
    assert results.loc["colm", "accuracy"] == 1
    assert 0.5 < results.loc["colm", "low"] < results.loc["colm", "high"] == 1
    (pair,) = report.comparisons().to_dict("records")
    assert (pair["one"], pair["other"], pair["wins"], pair["difference"]) == ("colm", "solo:one", 6, 1)
    assert pair["low"] <= 1 <= pair["high"]
    groups = report.groups()
    assert set(groups[groups.group == "place"].name) == {"street", "garage"}
    flips = report.flips().set_index("client")
    assert flips.loc["one", "corrected"] == 6
    assert report.costs().set_index("strategy").loc["colm", "server_calls"] == 6
    items = report.items()
    assert len(items) == 12
    assert set(items[items.strategy == "colm"].grade) == {1}
    assert {path.name for path in report.write(tmp_path / "report")} >= {"report.md", "report.html", "report.json"}


def test_queries_with_their_answers_in_the_metadata(team: Path) -> None:
    queries = (Query(row["question"], id=row["id"], metadata={"gold": "Reds"}) for row in ROWS)
    report = evaluate(queries, team=Team.load(team), strategies=["solo:two"], metric="anls", answer_column="gold")
    assert report.accuracies == {"solo:two": pytest.approx(0.75)}


def test_a_run_folder_is_resumed(tmp_path: Path, team: Path) -> None:
    queries = [Query(row["question"], id=row["id"], metadata={"answer": "red"}) for row in ROWS]
    first = evaluate(queries, team=team, strategies=["solo:two"], out=tmp_path / "run")
    calls = (tmp_path / "run" / "calls.jsonl").read_text()
    again = evaluate(queries, team=team, strategies=["solo:two"], out=tmp_path / "run", metric="contains")
    assert (tmp_path / "run" / "calls.jsonl").read_text() == calls
    assert again.accuracies == first.accuracies == {"solo:two": 1}


def test_wrong_questions_are_all_named(team: Path) -> None:
    queries = [Query("Which?", metadata={"answer": {}}), Query("Which?", metadata={"answer": True})]
    with pytest.raises(InputError, match=r"question 1: answer is \{\}.*; question 2: answer is True"):
        evaluate(queries, team=team)
    with pytest.raises(InputError, match="strategies is 'colm', expected a list"):
        evaluate(queries, team=team, strategies="colm")
