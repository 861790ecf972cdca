"""Which column of a predictions file holds the replies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from colm_vl.errors import InputError
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


@pytest.mark.parametrize(
    ("columns", "read"),
    [
        ({"pred": "C", "model_outputs": "The answer is (B)."}, "The answer is (B)."),  # MMLU-Pro's own files
        ({"pred": "C", "generated_text": "The answer is (B)."}, "The answer is (B)."),
        ({"text": "B", "prompt": "Which?", "model_id": "m", "metadata": {}}, "B"),  # LLaVA's
    ],
)
def test_the_reply_column_beside_gold_and_parsed_columns(columns: dict[str, Any], read: str, tmp_path: Path) -> None:
    row = {"question_id": 1, **columns}
    if "pred" in columns:
        row |= {"question": "?", "options": ["a", "b"], "answer": "A"}
    assert said(tmp_path / "p.json", json.dumps([row])) == {"1": read}


@pytest.mark.parametrize("more", [{"completion": "I do not know"}, {"question": "?"}, {"question": "?", "text": "?"}])
def test_answer_is_no_reply_where_it_may_be_gold(more: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"id": "0", "answer": "#### 4", **more}))
    with pytest.raises(InputError, match="the column `answer` may hold the gold answers; found id, answer") as told:
        read_predictions(path)
    assert "--reply-column" in str(told.value.hint)
    assert read_predictions(path, column=next(iter(more)))["0"].text == next(iter(more.values()))


def test_the_column_asked_for_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"id": "0", "response": "A"}')
    with pytest.raises(InputError, match="no column 'reply'") as told:
        read_predictions(path, column="reply")
    assert "id, response" in str(told.value.hint)


def test_a_failed_call_is_an_empty_reply(tmp_path: Path) -> None:
    assert said(tmp_path / "p.json", '[{"id": "0", "response": {"error": "refused"}}]') == {"0": ""}


def test_own_answers_are_read_from_the_file_too(tmp_path: Path) -> None:
    row = {
        "id": "0",
        "strategy": "vote",
        "answer": "blue",
        "choice": "B",
        "clients": {},
        "degraded": False,
        "error": None,
    }
    assert said(tmp_path / "answers.jsonl", json.dumps(row)) == {"0": "blue"}
