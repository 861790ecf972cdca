"""The batches that the page keeps for a reload."""

from __future__ import annotations

import pytest

from colm_vl import Settlement, Trace
from demos.batch_questions import Questions, UploadedQuestion
from demos.batch_runs import HOURS, MOST, BatchRun, BatchRuns
from demos.inputs import Limits

LINES = [UploadedQuestion(f"q{number}", "Why?") for number in range(3)]
TRACES = [Trace("Why?", "vote", id="q0", settlement=Settlement("so")), Trace("Why?", "vote", id="q1")]


def run(traces: list[Trace], *skipped: str) -> BatchRun:
    return BatchRun(LINES, "vote", traces, skipped, {}, 1.0)


def test_a_batch_is_found_with_its_key_only_and_for_a_day() -> None:
    now = [0.0]
    runs = BatchRuns(clock=lambda: now[0])
    key, other, stopped = "a" * 32, "b" * 32, run(TRACES)
    for given in (key, "short", "", "../" + "a" * 29):
        runs.keep(given, stopped)
    assert runs.find(key) is stopped
    assert [runs.find(wrong) for wrong in (other, "short", "", "../" + "a" * 29)] == [None] * 4
    now[0] = HOURS * 3600 + 1
    assert runs.find(key) is None


def test_the_batch_that_was_not_used_for_longest_is_dropped_first() -> None:
    runs = BatchRuns()
    keys = [f"{number:032x}" for number in range(MOST + 1)]
    for key in keys[:-1]:
        runs.keep(key, run(TRACES))
    runs.find(keys[0])
    runs.keep(keys[-1], run(TRACES))
    assert [key for key in keys if runs.find(key) is None] == [keys[1]]


@pytest.mark.parametrize(
    ("stopped", "strategy", "kept"),
    [(run(TRACES), "vote", {"q0"}), (run(TRACES), "colm", set()), (run(TRACES, "q2: too large"), "vote", set())],
)
def test_what_was_answered_is_not_asked_again_unless_the_batch_was_finished(
    stopped: BatchRun, strategy: str, kept: set[str]
) -> None:
    changed = [LINES[0], UploadedQuestion("q1", "How?"), LINES[2]]
    assert stopped.answers_to(Questions(LINES, Limits()), strategy).keys() == kept
    assert stopped.answers_to(Questions(changed, Limits()), strategy).keys() == kept
