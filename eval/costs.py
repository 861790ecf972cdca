"""What a strategy costs, as if it had been run alone, and the Pareto front of cost and accuracy."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from colm_vl.batch import CALLS
from colm_vl.types import Call, Sent, Trace, Usage

from .run_folder import Evaluation

CallId = tuple[str, str, str, int, int, int, int]
JournalId = tuple[str, str, int, int, Usage, Sent]


@dataclass(frozen=True, slots=True)
class Cost:
    """Totals over `items` questions.

    `seconds` are the summed durations of the model calls, by stage, or None if one of them is unknown. `skipped` counts
    the server calls that a gate skipped.
    """

    items: int
    calls: int
    server_calls: int
    skipped: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    server_tokens: int
    bytes: int
    seconds: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        """Prompt and completion tokens. Cached tokens count in full: how many are cached depends on earlier requests,
        so a strategy would cost less for being run later."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def tokens_each(self) -> float:
        return self.tokens / max(self.items, 1)

    @property
    def total_seconds(self) -> float | None:
        return sum_or_none(self.seconds.values())


class CallTimes:
    """How long each call took when it was made, also for traces that reused it.

    Taken from the trace that made the call, else from the journal: a run that was killed may have journalled a call and
    not written its trace.
    """

    def __init__(self, made: Mapping[CallId, float], journal: Mapping[JournalId, float] | None = None) -> None:
        self._made = made
        self._journal = journal or {}

    @classmethod
    def of_run(cls, evaluation: Evaluation, elsewhere: Mapping[CallId, float] | None = None) -> CallTimes:
        """`elsewhere` holds the seconds of calls that other runs made and this one reused."""
        every = [trace for traces in evaluation.traces.values() for trace in traces]
        return cls({**(elsewhere or {}), **seconds_of_calls(every)}, journalled_seconds(evaluation.folder))

    def of(self, trace: Trace, call: Call) -> float | None:
        if not call.reused:
            return call.seconds
        return self._made.get(call_id(trace, call), self._journal.get(_journal_id(call)))


def sum_or_none(seconds: Iterable[float | None]) -> float | None:
    """The sum, or None if one of the values is None."""
    total = 0.0
    for one in seconds:
        if one is None:
            return None
        total += one
    return total


def cost(traces: Sequence[Trace], times: CallTimes) -> Cost:
    """Add up the calls of the traces. Calls shared with other strategies count in full, with their first duration."""
    calls = [(trace, call) for trace in traces for call in trace.calls]
    servers = {member.name for trace in traces for member in trace.members if member.role == "server"}
    of_server = [call for _, call in calls if call.member in servers]
    seconds: defaultdict[str, list[float | None]] = defaultdict(list)
    for trace, call in calls:
        seconds[call.stage].append(times.of(trace, call))
    return Cost(
        items=len(traces),
        calls=len(calls),
        server_calls=len(of_server),
        skipped=sum(not gate.asked for trace in traces for gate in trace.gates),
        prompt_tokens=sum(call.usage.prompt_tokens for _, call in calls),
        cached_tokens=sum(call.usage.cached_tokens for _, call in calls),
        completion_tokens=sum(call.usage.completion_tokens for _, call in calls),
        server_tokens=sum(call.usage.prompt_tokens + call.usage.completion_tokens for call in of_server),
        bytes=sum(call.sent.bytes for _, call in calls),
        seconds={stage: sum_or_none(of_stage) for stage, of_stage in seconds.items()},
    )


def seconds_of_calls(traces: Sequence[Trace]) -> dict[CallId, float]:
    """The durations of the calls that these traces made, as opposed to reused."""
    return {call_id(trace, call): call.seconds for trace in traces for call in trace.calls if not call.reused}


def journalled_seconds(folder: Path) -> dict[JournalId, float]:
    """Durations from the journal of a run.

    The journal does not name a call's question. Calls that are alike in everything that it does keep share the mean of
    their durations, so that sums are right.
    """
    path = folder / CALLS
    found: defaultdict[JournalId, list[float]] = defaultdict(list)
    for line in path.read_bytes().split(b"\n") if path.exists() else ():
        try:
            row = json.loads(line)
            position = (row["member"], row["stage"], row["round"], row["sample"])
            found[(*position, Usage(*row["usage"]), Sent(*row["sent"]))].append(row["seconds"])
        except (ValueError, LookupError, TypeError):  # the last line of a run that was killed
            continue
    return {key: fmean(seconds) for key, seconds in found.items()}


def _journal_id(call: Call) -> JournalId:
    return (call.member, call.stage, call.round, call.sample, call.usage, call.sent)


def call_id(trace: Trace, call: Call) -> CallId:
    usage = call.usage
    return (
        trace.id,
        call.member,
        call.stage,
        call.round,
        call.sample,
        usage.prompt_tokens,
        usage.completion_tokens,
    )


@dataclass(frozen=True, slots=True)
class CostPoint:
    """Cost and accuracy of a strategy."""

    name: str
    cost: float
    accuracy: float


def pareto(points: Sequence[CostPoint]) -> list[CostPoint]:
    """The points for which no other point costs less and is at least as accurate, cheapest first."""
    front: list[CostPoint] = []
    for point in sorted(points, key=lambda one: (one.cost, -one.accuracy)):
        if not front or point.accuracy > front[-1].accuracy:
            front.append(point)
    return front
