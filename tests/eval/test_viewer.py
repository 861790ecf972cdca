"""The questions that report.html lets readers look through."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from eval.report.write import write_report

from .viewed_run import HOSTILE, write_run


@pytest.fixture(scope="module")
def viewed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("viewed"), 40)


@pytest.fixture(scope="module")
def page(viewed: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return page_of(viewed, tmp_path_factory.mktemp("report"))


def page_of(run: Path, out: Path, items: int = 1_000) -> str:
    write_report([run], out, items=items)
    return (out / "report.html").read_text()


def data_in(page: str) -> Any:
    (text,) = re.findall(r'<script type="application/json">(.*?)</script>', page)
    return json.loads(text)


def test_each_question_has_its_answers_and_what_happened(page: str) -> None:
    data = data_in(page)
    assert data["strategies"] == ["vote", "colm"]
    assert data["groups"] == {"place": ["street", "garage"]}
    items = {item["id"]: item for item in data["items"]}
    assert list(items) == [f"q{number}" for number in range(40)]
    marks = {key: items[key]["answers"][1]["marks"] for key in ("q0", "q1", "q2", "q3", "q5")}
    assert marks == {
        "q0": ["changed", "corrected"],
        "q1": ["changed", "regressed"],
        "q2": ["unread"],
        "q3": ["failed"],
        "q5": [],
    }
    vote, colm = items["q1"]["answers"]
    assert (vote["grade"], colm["grade"], items["q1"]["differ"], items["q0"]["differ"]) == (1, 0, True, False)
    changed = items["q0"]["answers"][1]["refinements"][0]
    assert (changed["flip"], changed["before"], changed["answer"], changed["right"]) == (
        "corrected",
        "blue",
        "red",
        True,
    )
    assert changed["confidence"] == 0.8
    assert colm["guidance"][0]["parts"]["Check"] == "its side."
    assert "one, draft: one: nothing answers" in items["q3"]["answers"][0]["problems"][0]
    assert items["q2"]["answers"][0]["drafts"][1]["text"] == "Caption: a street"


def test_what_models_write_cannot_leave_the_data(page: str) -> None:
    assert HOSTILE not in page
    hostile = data_in(page)["items"][4]
    assert HOSTILE in hostile["question"]
    assert HOSTILE in hostile["answers"][1]["drafts"][0]["caption"]
    assert page.count("<script") == 2
    assert re.search(r"script-src 'sha256-[\w+/]{43}='\"", page)


def test_pictures_are_read_again_and_missing_ones_are_told(page: str) -> None:
    data = data_in(page)
    digests = {item["id"]: item["images"][0]["digest"] for item in data["items"]}
    assert list(data["pictures"]) == [digests["q0"]]
    assert data["pictures"][digests["q0"]].startswith("data:image/webp;base64,")
    assert "1 of 2 pictures are missing: they are no longer where the run read them, or have changed." in page


def test_of_many_questions_the_most_informative_are_kept_and_pictures_have_a_limit(
    viewed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eval.report.pictures.BUDGET", 1_000)
    page = page_of(viewed, tmp_path, items=18)
    assert data_in(page)["pictures"] == {}
    assert "1 pictures are left out" in page
    shown = Counter(item["question"].split()[2] for item in data_in(page)["items"])
    assert {kind: shown[f"{kind}:"] for kind in ("regressed", "unread", "broken", "corrected")} == dict.fromkeys(
        ("regressed", "unread", "broken", "corrected"), 4
    )
    assert shown.total() == 18
    assert "18 of 40 questions are in this report (--items)" in page
    assert data_in(page_of(viewed, tmp_path, items=18)) == data_in(page)
    assert "viewer" not in page_of(viewed, tmp_path, items=0)
