"""Which of a predictions file's columns is the reply."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eval.predictions import read_predictions


def said(path: Path, text: str) -> dict[str, str]:
    path.write_text(text, "utf-8")
    return {key: reply.text for key, reply in read_predictions(path).items()}


@pytest.mark.parametrize("rest", ["1\tB\tB\n", ""])
def test_an_empty_reply_is_never_the_gold_answer(rest: str, tmp_path: Path) -> None:
    """VLMEvalKit's predictions have the gold answer in `answer`, even where a model wrote nothing at all."""
    found = said(tmp_path / "p.tsv", f"index\tanswer\tprediction\n0\tA\t\n{rest}")
    assert found["0"] == ""
    assert found.get("1", "B") == "B"


def test_a_row_without_the_column_of_the_others_is_an_empty_reply(tmp_path: Path) -> None:
    rows = [{"id": "0", "answer": "A"}, {"id": "1", "answer": "B", "prediction": "C"}]
    for name, text in (("p.json", json.dumps(rows)), ("p.jsonl", "\n".join(map(json.dumps, rows)))):
        assert said(tmp_path / name, text) == {"0": "", "1": "C"}


def test_one_empty_response_is_a_reply(tmp_path: Path) -> None:
    assert said(tmp_path / "p.tsv", "id\tresponse\n0\t\n") == {"0": ""}


def test_answer_is_the_reply_where_there_is_no_other(tmp_path: Path) -> None:
    assert said(tmp_path / "p.csv", "id,answer\n0,A\n1,\n") == {"0": "A", "1": ""}
