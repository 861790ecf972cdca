"""The batches that the page keeps for a reload."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from colm_vl import Draft, Refinement, Settlement, Trace
from demos.batch_questions import Questions, UploadedQuestion
from demos.batch_runs import HOURS, MOST, BatchRun, BatchRuns
from demos.inputs import Limits
from tests.teams import FIVE, scripted

gr = pytest.importorskip("gradio", reason="gradio is not installed: pip install 'colm-vl[demo]'")
from demos import batch_tab  # noqa: E402
from demos.batch_tab import BatchTab  # noqa: E402
from demos.batch_view import _judged  # noqa: E402
from demos.service import Service  # noqa: E402
from demos.waiting import WaitingLine  # noqa: E402

LINES = [UploadedQuestion(f"q{number}", "Why?") for number in range(3)]
SLOW = [UploadedQuestion("q0", "Why?"), UploadedQuestion("q1", "Slowly?")]
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


@pytest.fixture
async def tab() -> AsyncIterator[BatchTab]:
    with (
        scripted({"one": [{"when": "Slowly?", "text": "Answer: 5", "delay": 1}, FIVE]}, strategy="vote") as colm,
        gr.Blocks() as page,
    ):
        tab = BatchTab(Service(colm, WaitingLine(2, 2)), Limits())
        tab.lay_out(page)
        yield tab


def session(name: str) -> Any:
    return SimpleNamespace(session_hash=name)


async def test_a_batch_runs_in_one_tab_of_a_browser(tab: BatchTab) -> None:
    key = "a" * 32
    first = tab._run(Questions(SLOW, Limits()), "vote", key, session("first"))
    await anext(first)
    await anext(first)
    second = [update async for update in tab._on_continue(key, session("second"))]
    assert [list(update) for update in second] == [[tab.progress]]
    assert "in another tab. Stop it first" in second[0][tab.progress]
    loaded = tab._on_load(key, session("second"))
    assert "1 of 2 answered" in (await anext(loaded))[tab.progress]
    other = tab._run(Questions(LINES[:1], Limits()), "vote", "b" * 32, session("other"))
    assert "1 of 1 answered" in [update async for update in other][-1][tab.progress]
    last = [update async for update in first][-1]
    assert "2 of 2 answered" in last[tab.progress]
    assert "2 of 2 answered in" in [update async for update in loaded][-1][tab.progress]
    (kept,) = [update async for update in tab._on_load(key, session("third"))]
    assert "2 of 2 answered in" in kept[tab.progress]


async def test_a_batch_is_stopped_by_the_browsers_key(tab: BatchTab) -> None:
    key = "a" * 32
    running = tab._run(Questions(SLOW, Limits()), "vote", key, session("first"))
    await anext(running)
    await anext(running)
    await tab._on_stop(key, session("first"))
    last = [update async for update in running][-1]
    assert "Stopped: 1 of 2 answered" in last[tab.progress]


def test_the_time_left_is_told_by_the_answers_since_the_batch_was_continued() -> None:
    lines = [*LINES, UploadedQuestion("q3", "Why?")]
    continued = replace(run([*TRACES, Trace("Why?", "vote", id="q2")]), lines=lines, seconds=7.0, kept=2)
    assert "about 7 s left" in batch_tab._progress(continued, over=False)
    assert "3 of 4 answered, the last 1 in 7 s" in batch_tab._progress(continued, over=True)
    assert "left" not in batch_tab._progress(replace(continued, traces=TRACES), over=False)


def test_only_a_refinement_corrects_an_answer() -> None:
    samples = (Draft("one", "4", "4", sample=1), Draft("one", "5", "5", sample=2))
    sampled = Trace("Why?", "self_consistency", drafts=samples)
    assert [judged.flip for judged in _judged(sampled, "5")] == ["", ""]
    refined = Trace("Why?", "colm", drafts=samples[:1], refinements=(Refinement("one", "5", "5", changed=True),))
    assert [judged.flip for judged in _judged(refined, "5")] == ["", "corrected"]
