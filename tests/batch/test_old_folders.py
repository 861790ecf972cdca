"""Run folders of earlier formats, in `data/`, can still be opened."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from colm_vl import CoLM, Trace
from colm_vl.batch.journal import Journal
from colm_vl.batch.stats import BatchStats
from colm_vl.store import CallKey
from processors import images
from tests.batch.runs import read_lines

DATA = Path(__file__).parent / "data"
STRATEGIES = "solo,vote,colm"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy of an old run with its questions and its team."""
    folder = shutil.copytree(DATA / "first-format", tmp_path / "old")
    with (folder / "team.toml").open("a", encoding="utf-8") as team:
        team.write('\n[policy]\nprompts = "pocket"\n')  # the sentences of that time
    return folder


def _resume(folder: Path, stats: BatchStats) -> Sequence[Trace]:
    with CoLM.from_team(folder / "team.toml") as colm:
        return list(colm.batch(folder / "questions.jsonl", folder / "run", strategy=STRATEGIES, stats=stats))


def test_a_finished_run_is_resumed_without_a_call(old: Path) -> None:
    stats = BatchStats()
    traces = _resume(old, stats)
    assert (stats.kept, stats.calls, stats.avoided, stats.failed) == (9, 0, 0, 0)
    assert [(trace.id, trace.answer, trace.choice) for trace in traces[::3]] == [
        ("text", "5", None),
        ("picture", "5", None),
        ("choices", "5", "A"),
    ]
    assert traces[0].metadata == {"level": "easy"}
    assert not stats.notes


def test_a_picture_is_decoded_once_and_then_known_by_its_file(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _resume(old, BatchStats())
    monkeypatch.setattr(images, "_decode", None)
    assert _resume(old, BatchStats()) == first
    assert len(first[3].images[0].file_digest) == 64


@pytest.mark.parametrize("damage", ['"drafts":[7,', '"drafts":null,"was":[', '"gates":{"a":1},"was":['])
def test_damage_in_an_old_folder_is_reported_and_asked_again(old: Path, damage: str) -> None:
    path, stats = old / "run" / "traces.jsonl", BatchStats()
    lines = path.read_text("utf-8").splitlines(keepends=True)
    field = damage[: damage.index(":")]
    lines[2] = lines[2].replace(f"{field}:[", damage)
    path.write_text("".join(lines), "utf-8")
    traces = _resume(old, stats)
    assert all(trace.answer for trace in traces)
    assert (stats.kept, stats.answered) == (8, 1)
    assert stats.notes == ["traces.jsonl, line 3: dropped a damaged line; its question is asked again"]


def test_traces_and_answers_of_an_old_folder_are_unchanged(old: Path) -> None:
    traces = [Trace.from_dict(line) for line in read_lines(old / "run" / "traces.jsonl")]
    assert [trace.strategy for trace in traces] == STRATEGIES.split(",") * 3
    last = traces[-1]
    assert (last.question, last.choices, last.metadata["tags"]) == ("Which colour?", ("5", "red"), ["é", 1])
    assert [(call.member, call.stage) for call in last.calls][:2] == [("near", "draft"), ("far", "draft")]
    assert last.guidance[0].check == "the corner"
    (picture,) = traces[3].images
    assert (picture.width, picture.height, picture.source) == (4, 3, "dot.png")
    before = (old / "run" / "answers.jsonl").read_bytes()
    _resume(old, BatchStats())
    assert (old / "run" / "answers.jsonl").read_bytes() == before


async def test_calls_of_an_old_folder_are_reused(old: Path) -> None:
    path = old / "run" / "calls.jsonl"
    journal = Journal(path)
    for line in read_lines(path):
        async with journal.claim(cast("CallKey", SimpleNamespace(digest=line["key"]))) as claim:
            found = claim.outcome
        assert found is not None
        assert (found.text, list(astuple(found.usage))) == (line["text"], line["usage"])
    assert len(journal) == 15
    journal.close()
