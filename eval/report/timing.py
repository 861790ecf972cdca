"""The section on time: how long questions took, and where the time of the calls went."""

from __future__ import annotations

from collections.abc import Iterator

from colm_vl.types import STAGE_TITLES

from ..durations import MemberTime, Percentiles, QuestionTime, RunTime
from .document import Part, Plot, Table, Text
from .plots import time_plot

_FEW = 100
"""Of fewer durations, the 99th percentile is hardly more than the largest."""


def time_parts(found: RunTime, file: str) -> Iterator[Part]:
    yield Text(
        "Durations are in seconds, under the load of this run. Questions are timed as if each strategy had been run "
        "alone: a reused call takes as long as when it was made. 50 % of the durations are at most p50, 95 % at most "
        "p95, 99 % at most p99."
    )
    yield Table(
        ("strategy", "questions", "p50", "p95", "p99", "mean"), tuple(_question_row(one) for one in found.strategies)
    )
    if not found.members:
        return
    yield Text(
        "Calls by stage and member: p50 / p95 / p99. Waiting is for a model in this process to be loaded and free, for "
        "a place at an endpoint, or in the queue of a service. Prefill is the time from then until the first token; "
        "for an endpoint, it includes sending and the endpoint's own queue, unless the engine reports its times. –: "
        "unknown. An endpoint's prefill and decoding are unknown if its replies are not streamed, as in runs. What is "
        "in no part, such as failed attempts and waiting for a CPU, is drawn as unknown, too."
    )
    head = ("stage, member", "calls", "whole call", "waiting", "prefill", "decoding")
    yield Table(head, tuple(_member_row(one) for one in found.members))
    if told := list(_told(found)):
        yield Text(" ".join(told))
    yield Plot(file, time_plot(found), "Where the time of the calls went, by stage and member")


def _question_row(one: QuestionTime) -> tuple[str, ...]:
    whole = one.whole
    if whole is None:
        return one.strategy, str(one.questions), "–", "–", "–", "–"
    count = str(one.questions) if not one.untimed else f"{whole.count} of {one.questions}"
    return one.strategy, count, *(_seconds(value) for value in (whole.p50, whole.p95, whole.p99, whole.mean))


def _member_row(one: MemberTime) -> tuple[str, ...]:
    timed = one.calls - one.untimed
    count = str(one.calls) if not one.untimed else f"{timed} of {one.calls}"
    parts = (one.whole, one.queued, one.prefill, one.decode)
    return f"{STAGE_TITLES[one.stage]}, {one.member}", count, *(_cell(part, timed) for part in parts)


def _cell(part: Percentiles | None, calls: int) -> str:
    if part is None:
        return "–"
    told = " / ".join(_seconds(value) for value in (part.p50, part.p95, part.p99))
    return told if part.count == calls else f"{told} ({part.count} calls)"


def _seconds(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _told(found: RunTime) -> Iterator[str]:
    if any(one.calls < _FEW for one in found.members):
        yield f"Of fewer than {_FEW} calls, p99 is close to the longest."
    if any(one.untimed for one in found.members):
        yield "Calls of an earlier run whose journal is gone have no known duration, and are left out."
