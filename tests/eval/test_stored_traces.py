"""Traces that are read from the file of a run when they are needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from colm_vl.batch.lines import dump
from colm_vl.errors import InputError
from colm_vl.types import Settlement, Trace
from eval.stored_traces import stored_traces


def line(key: str, answer: str, strategy: str = "vote") -> bytes:
    return dump(Trace("?", strategy, id=key, settlement=Settlement(answer)).to_dict())


def test_traces_come_in_the_order_of_the_items_and_the_last_one_counts(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    lines = [line("b", "1"), line("a", "2"), line("other", "3"), line("a", "4", "solo"), line("b", "5")]
    path.write_bytes(b"".join(lines) + b'{"id": "a", "strategy": "vote", "cut o')
    found = stored_traces(tmp_path, ["a", "b", "c"])
    assert {name: [trace.answer for trace in traces] for name, traces in found.items()} == {
        "vote": ["2", "5"],
        "solo": ["4"],
    }
    assert [trace.answer for trace in found["vote"][1:]] == ["5"]
    assert found["vote"][-1] == found["vote"][1]


def test_a_run_that_ends_meanwhile_may_sort_the_file(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    path.write_bytes(line("b", "longer than the other") + line("a", "1"))
    found = stored_traces(tmp_path, ["a", "b"])
    (tmp_path / "new").write_bytes(line("a", "1") + line("b", "longer than the other"))
    (tmp_path / "new").replace(path)
    assert [trace.answer for trace in found["vote"]] == ["1", "longer than the other"]


@pytest.mark.parametrize(
    ("bad", "told"),
    [(b"[1]\n", "line 2: not a trace"), (b'{"id": "b", "strategy": "vote"}\n', "trace of schema None")],
)
def test_a_line_that_is_not_a_trace_is_an_error(tmp_path: Path, bad: bytes, told: str) -> None:
    path = tmp_path / "traces.jsonl"
    path.write_bytes(line("a", "1") + bad)
    with pytest.raises(InputError, match=f"traces.jsonl.*{told}"):
        list(stored_traces(tmp_path, ["a", "b"])["vote"])
