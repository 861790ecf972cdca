"""Answers in the formats of other harnesses: exported, read back, and read as these harnesses write them."""

from __future__ import annotations

import importlib
import json
import os
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas
import pytest

from tests.eval import published
from tests.eval.test_metric_references import REFERENCES
from tests.eval.test_score_command import run

Command = Callable[..., int]
FORMATS = {"lmms-eval": "*/*_samples_*.jsonl", "vlmevalkit": "*.tsv", "inspect": "*.json"}
"""Format → where its file with the answers is."""
TEAM = """
[[clients]]
name = "one"
backend = "scripted"
model = "script"
replies = [{ when = "Number 0", error = "bad_reply" }, { when = "Number 1", text = "Answer: blue" },
    { when = "Number 2", text = "Answer: say \\"red\\",\\tor" }, { when = "Number 3", text = "Answer: car" },
    "Answer: red"]
"""
QUESTIONS: list[dict[str, Any]] = [
    {"id": "q0", "question": "Number 0: which?", "answer": "red", "place": "street"},
    {"id": "q1", "question": "Number 1: which?", "answer": ["red", "crimson"], "place": "garage"},
    {"id": "q2", "question": "Number 2: \u201ewhich\u201c?", "answer": "red", "place": "garage"},
    {"id": "q3", "question": "Number 3: which?", "choices": ["bus", "car"], "answer": "B", "place": "street"},
    {"id": "q4", "question": "Number 4: which?", "answer": "red", "place": "street"},
    {"id": "q5", "question": "Number 5: why?"},
]
GRADES = {"q0": 0, "q1": 0, "q2": 0, "q3": 1, "q4": 1}
REPLIES = {"q0": "", "q1": "blue", "q2": "blue", "q3": "B", "q4": "red"}
"""Texts that get these grades."""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs in a folder with `mine.jsonl` and `team.toml`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    write("mine.jsonl", QUESTIONS)
    Path("team.toml").write_text(TEAM, encoding="utf-8")
    return partial(run, monkeypatch)


def write(name: str, rows: list[dict[str, Any]]) -> None:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def grades(command: Command, capsys: pytest.CaptureFixture[str], predictions: str, *more: str) -> dict[str, float]:
    capsys.readouterr()
    assert command("score", "mine.jsonl", "--predictions", predictions, "--json", "--partial", *more) == 0
    found: dict[str, float] = json.loads(capsys.readouterr().out)["grades"]
    return found


def exported(command: Command, format_: str) -> Path:
    asked = ("--team", "team.toml", "--strategies", "solo:one,vote", "--group-column", "place", "--out", "run")
    assert command("run", "mine.jsonl", *asked) == 0
    assert command("export", "run", "--to", format_, "--strategies", "vote", "--out", "out") == 0
    (path,) = Path("out").glob(FORMATS[format_])
    return path


@pytest.mark.parametrize("format_", FORMATS)
def test_exported_answers_are_read_back_with_the_same_grades(
    command: Command, capsys: pytest.CaptureFixture[str], format_: str
) -> None:
    path = exported(command, format_)
    assert grades(command, capsys, str(path)) == grades(command, capsys, "run", "--strategy", "vote") == GRADES
    assert command("compare", "run", str(path), "--strategies", "vote", "--json") == 0
    (pair,) = json.loads(capsys.readouterr().out)["comparisons"]
    assert (pair["items"], pair["changes"]) == (len(GRADES), [])


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("benchmark", ["gsm8k", "scienceqa", "mmlu_pro"])
def test_answers_to_a_benchmark_keep_the_form_that_its_script_reads(
    command: Command, capsys: pytest.CaptureFixture[str], format_: str, benchmark: str
) -> None:
    data = str(published.PUBLISHED[benchmark](Path()))
    asked = ("--data", data, "--team", "team.toml", "--strategies", "vote", "--out", "run")
    Path("team.toml").write_text(
        TEAM.replace("Answer: red", "Answer: 1000" if benchmark == "gsm8k" else "Answer: B"), encoding="utf-8"
    )
    assert command("run", benchmark, *asked) == 0
    assert command("export", "run", "--to", format_, "--out", "out") == 0
    (path,) = Path("out").glob(FORMATS[format_])
    capsys.readouterr()
    assert command("compare", "run", str(path), "--json") == 0
    (pair,) = json.loads(capsys.readouterr().out)["comparisons"]
    assert pair["changes"] == []
    assert pair["items"] > 0


def test_lmms_eval_finds_its_fields(command: Command) -> None:
    path = exported(command, "lmms-eval")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["doc_id"] for row in rows] == list(range(len(QUESTIONS)))
    assert rows[3]["input"] == "Number 3: which?\nA. bus\nB. car"
    assert (rows[3]["target"], rows[3]["filtered_resps"], rows[3]["score"]) == ("B", "B", 1)
    assert "score" not in rows[5]
    results = json.loads(path.with_name(path.name.split("_samples_")[0] + "_results.json").read_text())
    assert results["results"]["mine_jsonl"]["score,none"] == pytest.approx(2 / 5)
    assert results["n-samples"]["mine_jsonl"] == {"original": 6, "effective": 5}


def test_lmms_eval_reads_the_log_as_a_baseline(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(os.environ.get(REFERENCES, "")) / "lmms-eval"
    if REFERENCES not in os.environ or not folder.exists():
        pytest.skip(f"{REFERENCES} names no folder with lmms-eval: see docs/harnesses.md")
    path = exported(command, "lmms-eval")
    monkeypatch.syspath_prepend(str(folder))
    scores, results = importlib.import_module("lmms_eval.baselines.loader").load_baseline(str(path), "mine_jsonl")
    assert [scores[place] for place in range(5)] == list(GRADES.values())
    assert results["results"]["mine_jsonl"]["score,none"] == pytest.approx(2 / 5)


def test_vlmevalkit_finds_its_columns(command: Command) -> None:
    table = pandas.read_csv(exported(command, "vlmevalkit"), sep="\t")  # as its `load` does
    assert list(table["index"]) == [row["id"] for row in QUESTIONS]
    assert (table["A"][3], table["B"][3], table["answer"][3], table["place"][3]) == ("bus", "car", "B", "street")
    assert table["prediction"][0] == "Failed to obtain answer via API."
    assert table["question"][2] == QUESTIONS[2]["question"]


def test_inspect_logs_say_what_led_to_the_answer(command: Command) -> None:
    log = json.loads(exported(command, "inspect").read_text())
    assert (log["version"], log["status"], log["eval"]["model"]) == (2, "success", "colm-vl/vote")
    sample = log["samples"][1]
    assert (sample["target"], sample["output"]["completion"]) == (["red", "crimson"], "blue")
    assert sample["scores"]["colm_vl"] == {"value": 0, "answer": "blue", "explanation": "whole reply"}
    assert sample["metadata"]["colm_vl"]["drafts"] == {"one": "blue"}
    assert log["samples"][0]["metadata"]["colm_vl"]["failures"]


def lmms_row(number: int, reply: Any, **more: Any) -> dict[str, Any]:
    question = f"Look. {QUESTIONS[number]['question']}\nAnswer with one word."
    return {"doc_id": number, "input": question, "target": "?", "filtered_resps": reply, **more}


def test_logs_of_lmms_eval_are_matched_by_id_or_by_place(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    replies = [[["no"]], ["blue"], "blue", "car", "red"]
    write("by-place.jsonl", [lmms_row(number, reply) for number, reply in enumerate(replies)])
    assert grades(command, capsys, "by-place.jsonl") == GRADES
    by_id = [
        lmms_row(number, reply, doc_id=90 + number, acc={"id": f"q{number}"}) for number, reply in enumerate(replies)
    ]
    write("by-id.jsonl", by_id)
    assert grades(command, capsys, "by-id.jsonl") == GRADES


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"doc_id": 3}, "a reply to 'Look. Number 4: which?\\nAnswer with one word.' is not one to 'q3'"),
        ({"doc_id": 3, "input": "no such question"}, "a reply to 'no such question' is not one to 'q3'"),
        ({"doc_id": 300}, "1 predictions for unknown questions, the first: '300'"),
        ({"filtered_resps": [[-1.5, True], [-2.5, False]]}, "line 1: holds several values, not one reply"),
    ],
)
def test_logs_that_may_be_of_other_questions_are_refused(
    command: Command, capsys: pytest.CaptureFixture[str], change: dict[str, Any], told: str
) -> None:
    write("log.jsonl", [lmms_row(4, "red") | change])
    assert command("score", "mine.jsonl", "--predictions", "log.jsonl", "--partial") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


def test_the_same_question_about_many_pictures_is_told_apart_by_its_gold_answer(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    write("same.jsonl", [{"id": f"p{n}", "question": "What is it?", "answer": f"thing {n}"} for n in range(4)])
    log = [
        {"doc_id": n, "input": "What is it? Answer briefly.", "target": f"thing {n}", "filtered_resps": f"thing {n}"}
        for n in range(4)
    ]
    write("log.jsonl", log)
    assert command("score", "same.jsonl", "--predictions", "log.jsonl", "--json") == 0
    assert set(json.loads(capsys.readouterr().out)["grades"].values()) == {1}
    write("log.jsonl", [row | {"doc_id": 3 - row["doc_id"]} for row in log])
    assert command("score", "same.jsonl", "--predictions", "log.jsonl") == 2
    assert "is not one to 'p3'" in capsys.readouterr().err
    write("log.jsonl", [row | {"target": ""} for row in log])
    assert command("score", "same.jsonl", "--predictions", "log.jsonl") == 2


@pytest.mark.parametrize("kind", ["xlsx", "tsv", "json"])
def test_predictions_of_vlmevalkit_are_read_in_its_formats(
    command: Command, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    rows = [
        {"index": row["id"], "question": row["question"], "prediction": REPLIES[row["id"]]} for row in QUESTIONS[:5]
    ]
    rows[2]["prediction"] = "None"
    rows[0]["prediction"] = "Failed to obtain answer: <class 'ValueError'> red"
    table = pandas.DataFrame(rows)
    if kind == "xlsx":
        table.to_excel("said.xlsx", index=False)
    elif kind == "tsv":
        table.to_csv("said.tsv", sep="\t", index=False, quoting=1)
    else:
        Path("said.json").write_text(json.dumps(rows), encoding="utf-8")
    assert (
        grades(command, capsys, f"said.{kind}", "--metric", "contains") == GRADES
    )  # "red" of the failed call is no answer
    Path("broken.xlsx").write_bytes(b"no workbook")
    assert command("score", "mine.jsonl", "--predictions", "broken.xlsx") == 2
    assert "broken.xlsx: not an Excel file" in capsys.readouterr().err


def inspect_sample(number: int, reply: Any, **more: Any) -> dict[str, Any]:
    content = [{"type": "reasoning", "reasoning": "red?"}, {"type": "text", "text": reply}]
    return {
        "id": f"q{number}",
        "epoch": 1,
        "input": [{"role": "user", "content": [{"type": "text", "text": QUESTIONS[number]["question"]}]}],
        "target": "?",
        "output": {"choices": [{"message": {"role": "assistant", "content": content}}]},
        **more,
    }


def archive(samples: list[dict[str, Any]]) -> None:
    with zipfile.ZipFile("log.eval", "w") as file:
        file.writestr("header.json", json.dumps({"version": 2, "status": "success", "eval": {}}))
        for sample in samples:
            file.writestr(f"samples/{sample['id']}_epoch_1.json", json.dumps(sample))


def test_logs_of_inspect_are_read_as_json_and_as_archive(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    samples = [inspect_sample(number, reply) for number, reply in enumerate(REPLIES.values())]
    Path("log.json").write_text(
        json.dumps({"version": 2, "status": "success", "eval": {}, "samples": samples}), encoding="utf-8"
    )
    assert grades(command, capsys, "log.json") == GRADES
    archive(samples)
    assert grades(command, capsys, "log.eval") == GRADES
    numbered = [sample | {"id": place} for place, sample in enumerate(samples, 1)]
    Path("log.json").write_text(
        json.dumps({"version": 2, "status": "success", "eval": {}, "samples": numbered}), encoding="utf-8"
    )
    assert grades(command, capsys, "log.json") == GRADES


def test_logs_of_inspect_that_cannot_be_used_are_refused(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    head = {"version": 2, "status": "success", "eval": {}}
    Path("epochs.json").write_text(
        json.dumps(head | {"samples": [inspect_sample(1, "red", epoch=2)]}), encoding="utf-8"
    )
    Path("none.json").write_text(json.dumps(head), encoding="utf-8")
    Path("broken.eval").write_bytes(b"PK")
    refused = {"epochs.json": "several epochs", "none.json": "without samples", "broken.eval": "cannot be read"}
    capsys.readouterr()
    for name, told in refused.items():
        assert command("score", "mine.jsonl", "--predictions", name) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert told in line


def test_an_unknown_format_is_refused(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    exported(command, "inspect")
    capsys.readouterr()
    assert command("export", "run", "--to", "helm", "--out", "out") == 2
    assert "unknown format 'helm' (one of: inspect, lmms-eval, vlmevalkit)" in capsys.readouterr().err
    assert command("export", "run", "--to", "inspect", "--strategies", "colm", "--out", "out") == 2
    assert "no strategy 'colm' (one of: solo:one, vote)" in capsys.readouterr().err
