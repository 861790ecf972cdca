from __future__ import annotations

import ast
import base64
import json
import re
import runpy
from dataclasses import replace
from pathlib import Path

import PIL.Image
import pytest

from colm_vl import EarlierTurn, Image, Query, Trace
from demos.history import KEPT, Entry, FeedbackFile, as_python, conversations, download_links, remembered
from demos.view import thumbnails
from tests.teams import FIVE, GUIDANCE, scripted


@pytest.fixture(scope="module")
def trace() -> Trace:
    with scripted({"one": [FIVE]}, [GUIDANCE]) as colm:
        return colm.ask('How many "dots"?\n</script>', choices=("5", "6"))


def test_the_history_has_the_latest_question_first(trace: Trace, dots: Query) -> None:
    given = [Entry(trace, thumbnails(dots.images), str(number), {"rounds": 2}) for number in range(KEPT + 3)]
    entries = remembered(json.loads(json.dumps([entry.to_dict() for entry in given])))
    assert entries == given[:KEPT]
    assert entries[0].view().settlement == trace.settlement


@pytest.mark.parametrize("stored", [None, "x", [1], [{}], [{"trace": {}}], [{"trace": 1, "thumbnails": 2}], {"a": 1}])
def test_invalid_history_entries_are_ignored(stored: object) -> None:
    assert remembered(stored) == []


def test_entries_that_cannot_be_shown_are_ignored(trace: Trace) -> None:
    assert trace.settlement is not None
    for shown, changes in (
        (True, {}),
        (False, {"strategy": "of_a_package_that_is_gone"}),
        (False, {"settlement": replace(trace.settlement, by=())}),
        (True, {"settlement": replace(trace.settlement, by=(), method="server")}),
    ):
        stored = [Entry(replace(trace, **changes)).to_dict()]  # type: ignore[arg-type]
        assert len(remembered(stored)) == shown


def test_the_download_is_the_trace(trace: Trace) -> None:
    html = download_links(Entry(trace), "team.toml", pocket=False)
    found = re.search(r'href="data:application/json;base64,([^"]+)"', html)
    assert found
    assert Trace.from_dict(json.loads(base64.b64decode(found[1]))) == trace
    assert "</script>" not in html


def test_the_python_code_asks_the_same_again(trace: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = as_python(Entry(trace, changes={"strategy": "vote", "gate": {"confidence": 0.5}}), "team.toml")
    ast.parse(code)
    team = '[[clients]]\nname="one"\nbackend="scripted"\nmodel="m"\nreplies=["Answer: 6"]\n[policy]\nstrategy="solo"\n'
    (tmp_path / "team.toml").write_text(team)
    (tmp_path / "again.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    again = runpy.run_path("again.py")["trace"]
    assert (again.question, again.choices, again.strategy) == (trace.question, trace.choices, "vote")
    assert "from_team()" in as_python(Entry(trace), None)


def test_the_python_code_of_a_follow_up_has_the_conversation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = PIL.Image.new("RGB", (32, 32), "white")
    history = (EarlierTurn("user", "What is\nthis?", 1), EarlierTurn("assistant", "A card"))
    with scripted({"one": [FIVE]}, strategy="solo") as colm:
        trace = colm.ask(Query("How many dots?", (Image.open(picture),), ("4", "5"), history=history))
    team = '[[clients]]\nname="one"\nbackend="scripted"\nmodel="m"\nreplies=["Answer: 5"]\n[policy]\nstrategy="solo"\n'
    (tmp_path / "team.toml").write_text(team)
    picture.save(tmp_path / "picture-1.png")
    (tmp_path / "again.py").write_text(as_python(Entry(trace), "team.toml"))
    monkeypatch.chdir(tmp_path)
    again = runpy.run_path("again.py")["trace"]
    assert (again.history, again.choices, again.images[0].digest) == (history, ("4", "5"), trace.images[0].digest)


def test_the_history_lists_conversations(trace: Trace) -> None:
    first, other = Entry(trace, id="a"), Entry(trace, id="b")
    second = Entry(replace(trace, history=(EarlierTurn("user", "What is this?"),)), id="c", earlier=("a",))
    assert conversations([second, other, first]) == [second, other]
    assert second.label.startswith("What is this? … How many")
    (forged,) = remembered([first.to_dict() | {"id": '"><script>', "earlier": ["a", 1]}])
    assert (forged.id, forged.earlier) == ("", ("a", ""))


def test_feedback_is_appended_with_the_trace(trace: Trace, tmp_path: Path) -> None:
    file = FeedbackFile(tmp_path / "feedback.jsonl")
    file.add("down", " 6 ", trace)
    file.add("up", "", trace)
    records = [json.loads(line) for line in (tmp_path / "feedback.jsonl").read_text().splitlines()]
    assert [(record["thumb"], record["right_answer"]) for record in records] == [("down", "6"), ("up", "")]
    assert Trace.from_dict(records[0]["trace"]) == trace
