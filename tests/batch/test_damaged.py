"""Damaged lines and files of newer formats are reported with file and line, and the folder stays usable."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from colm_vl import InputError
from colm_vl.batch.journal import Journal
from colm_vl.batch.lines import DamageNotes, Lines, dump
from colm_vl.batch.stats import BatchStats
from colm_vl.types import SCHEMA_VERSION
from tests.batch.runs import near_and_far, read_lines, write_questions


def _ask(folder: Path, strategy: str = "vote", limit: int | None = None) -> BatchStats:
    stats = BatchStats()
    with near_and_far() as colm:
        path = write_questions(folder, 4)
        assert all(t.answer for t in colm.batch(path, folder / "out", strategy=strategy, limit=limit, stats=stats))
    return stats


def _spoil(path: Path, line: int, old: str, new: str) -> None:
    lines = path.read_text("utf-8").splitlines(keepends=True)
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new)
    path.write_text("".join(lines), "utf-8")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"method":"vote"', '"method":"vott"'),
        ('"id":"q1"', '"id":5'),
        ('"id":"q1"', '"id":["q1"]'),
        ('"drafts":[', '"drafts":[7,'),
        (f'"schema_version":{SCHEMA_VERSION}', '"schema_version":"x"'),
    ],
)
def test_a_damaged_trace_is_reported_and_asked_again(tmp_path: Path, old: str, new: str) -> None:
    _ask(tmp_path)
    traces = tmp_path / "out" / "traces.jsonl"
    before = [line["id"] for line in read_lines(traces)]
    _spoil(traces, 2, old, new)
    stats = _ask(tmp_path)
    assert stats.notes == ["traces.jsonl, line 2: dropped a damaged line; its question is asked again"]
    assert (stats.kept, stats.answered, stats.calls) == (3, 1, 0)  # its calls are in calls.jsonl
    assert _ask(tmp_path).notes == []
    assert [line["id"] for line in read_lines(traces)] == before
    assert [line["id"] for line in read_lines(tmp_path / "out" / "answers.jsonl")] == before


def test_a_damaged_trace_of_another_question_is_dropped(tmp_path: Path) -> None:
    _ask(tmp_path)
    _spoil(tmp_path / "out" / "traces.jsonl", 4, '"method":"vote"', '"method":"vott"')
    (tmp_path / "out" / "answers.jsonl").unlink()  # so that all of them are written again
    stats = _ask(tmp_path, limit=2)
    assert stats.notes == ["traces.jsonl, line 4: dropped a damaged line; its question is asked again"]
    assert stats.kept == 2
    assert [line["id"] for line in read_lines(tmp_path / "out" / "answers.jsonl")] == ["q0", "q1", "q2"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"text":"', '"text":5,"was":"'),
        ('"usage":[', '"usage":["?",'),
        ('"finish_reason":"stop"', '"finish_reason":"stob"'),
        ('"attempts":1', '"attempts":null'),
        ('{"key":"', '{"kex":"'),
    ],
)
def test_a_damaged_call_is_reported_and_made_again(tmp_path: Path, old: str, new: str) -> None:
    _ask(tmp_path, "solo")
    _spoil(tmp_path / "out" / "calls.jsonl", 3, old, new)
    (tmp_path / "out" / "traces.jsonl").unlink()
    stats = _ask(tmp_path, "solo")
    assert stats.notes == ["calls.jsonl, line 3: is damaged; its call is made again"]
    assert (stats.calls, stats.avoided) == (1, 3)


def test_many_damaged_lines_are_reported_in_one_note(tmp_path: Path) -> None:
    out = tmp_path / "out"
    _ask(tmp_path, "solo")
    for name in ("calls.jsonl", "traces.jsonl"):
        damaged = "".join(json.dumps({"other": number}) + "\n" for number in range(2000))
        (out / name).write_text(damaged + (out / name).read_text("utf-8"), "utf-8")
    stats = _ask(tmp_path, "solo")
    assert stats.notes == [
        "calls.jsonl: 2,000 lines are damaged (the first is line 1); their calls are made again",
        "traces.jsonl: dropped 2,000 damaged lines (the first is line 1); their questions are asked again",
    ]
    assert (stats.kept, stats.calls) == (4, 0)


def test_only_the_first_damaged_lines_found_while_reading_are_listed(tmp_path: Path) -> None:
    path, notes = tmp_path / "calls.jsonl", list[str]()
    path.write_text("{}\n" * 30)
    damage = DamageNotes(notes, path, "is damaged", "{count} lines are damaged{first}")
    for line in range(30):
        damage.found(line * 3)
    assert notes[0] == "calls.jsonl, line 1: is damaged"
    assert notes[9:] == ["calls.jsonl, line 10: is damaged", "calls.jsonl: further damaged lines are not listed"]


def test_damaged_lines_are_reported_by_line_number(tmp_path: Path) -> None:
    lines = Lines(tmp_path / "lines")
    offsets = [lines.append(dump({"text": "x" * 30_000 * number})) for number in range(6)]
    assert [lines.number(offset) for offset in offsets] == [1, 2, 3, 4, 5, 6]
    lines.close()


def test_files_of_a_newer_format_are_refused_and_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    _ask(tmp_path)
    for name, old, new, line in (
        ("traces.jsonl", f'"schema_version":{SCHEMA_VERSION}', f'"schema_version":{SCHEMA_VERSION + 1}', ", line 1"),
        ("calls.jsonl", '"version":1', '"version":2', ", line 1"),
        ("run.json", '"schema_version": 1', '"schema_version": 2', ""),
    ):
        before = (out / name).read_text("utf-8")
        (out / name).write_text(before.replace(old, new, 1), "utf-8")
        with pytest.raises(InputError, match=rf"{name}{line}: has (a newer )?format"):
            _ask(tmp_path)
        assert (out / name).read_text("utf-8") == before.replace(old, new, 1) != before
        (out / name).write_text(before, "utf-8")
    assert _ask(tmp_path).kept == 4


def test_calls_have_a_format_version(tmp_path: Path) -> None:
    _ask(tmp_path)
    calls = tmp_path / "out" / "calls.jsonl"
    assert [list(line)[:2] for line in read_lines(calls)] == [["key", "version"]] * 8
    assert json.loads((tmp_path / "out" / "run.json").read_text())["schema_version"] == 1
    Journal(calls).close()
