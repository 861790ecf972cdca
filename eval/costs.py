"""What a strategy costs, as if it had been run alone, and the Pareto front of cost and accuracy."""

from __future__ import annotations

import json
from collections import ChainMap, defaultdict
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from colm_vl.batch import CALLS
from colm_vl.batch.shards import files
from colm_vl.types import Call, Sent, Trace, Usage

CallId = tuple[str, str, str, int, int, int, int]
JournalId = tuple[str, str, int, int, Usage, Sent]


@dataclass(frozen=True, slots=True)
class Prefetching:
    """The number of questions with a prefetch, and of those in which the server was then not asked for guidance. For
    these, `wasted_tokens` is what the server read, except in those `stopped`, for which it is not known."""

    questions: int = 0
    wasted: int = 0
    wasted_tokens: int = 0
    stopped: int = 0

    def __add__(self, other: Prefetching) -> Prefetching:
        return Prefetching(
            self.questions + other.questions,
            self.wasted + other.wasted,
            self.wasted_tokens + other.wasted_tokens,
            self.stopped + other.stopped,
        )

    @classmethod
    def of(cls, trace: Trace) -> Prefetching:
        tokens = [call.usage.prompt_tokens for call in trace.calls if call.stage == "prefetch"]
        guided = "guide" in {call.stage for call in trace.calls} | {failure.stage for failure in trace.failures}
        return cls(len(tokens)) if guided else cls(len(tokens), len(tokens), sum(tokens), tokens.count(0))


@dataclass(frozen=True, slots=True)
class Cost:
    """Totals over `items` questions.

    `seconds` are the summed durations of the model calls, by stage, or None if one of them is unknown. `skipped` counts
    the server calls that a gate skipped. `server_calls` are those with a reply, so a prefetch is not one of them.
    """

    items: int = 0
    calls: int = 0
    server_calls: int = 0
    skipped: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    server_tokens: int = 0
    bytes: int = 0
    seconds: Mapping[str, float | None] = field(default_factory=dict)
    prefetching: Prefetching = Prefetching()

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.items + other.items,
            self.calls + other.calls,
            self.server_calls + other.server_calls,
            self.skipped + other.skipped,
            self.prompt_tokens + other.prompt_tokens,
            self.cached_tokens + other.cached_tokens,
            self.completion_tokens + other.completion_tokens,
            self.server_tokens + other.server_tokens,
            self.bytes + other.bytes,
            {
                stage: sum_or_none((self.seconds.get(stage, 0.0), other.seconds.get(stage, 0.0)))
                for stage in (*self.seconds, *(stage for stage in other.seconds if stage not in self.seconds))
            },
            self.prefetching + other.prefetching,
        )

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

    def __init__(self, made: MutableMapping[CallId, float], journal: Journal | None = None) -> None:
        self._made = made
        self._journal = journal

    def with_calls_of(self, traces: Iterable[Trace]) -> CallTimes:
        """Also of the calls that these traces made."""
        return CallTimes(ChainMap(seconds_of_calls(traces), self._made), self._journal)

    def of(self, trace: Trace, call: Call) -> float | None:
        if not call.reused:
            return call.seconds
        made = self._made.get(call_id(trace, call))
        return self._journal.seconds.get(_journal_id(call)) if made is None and self._journal else made


def sum_or_none(seconds: Iterable[float | None]) -> float | None:
    """The sum, or None if one of the values is None."""
    total = 0.0
    for one in seconds:
        if one is None:
            return None
        total += one
    return total


def cost(trace: Trace, times: CallTimes) -> Cost:
    """The cost of one question. Calls shared with other strategies count in full, with their first duration."""
    usage, of_server = trace.usage, server_calls(trace)
    seconds: defaultdict[str, list[float | None]] = defaultdict(list)
    for call in trace.calls:
        seconds[call.stage].append(times.of(trace, call))
    return Cost(
        items=1,
        calls=len(trace.calls),
        server_calls=sum(call.stage != "prefetch" for call in of_server),
        skipped=sum(not gate.asked for gate in trace.gates),
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        completion_tokens=usage.completion_tokens,
        server_tokens=sum(call.usage.prompt_tokens + call.usage.completion_tokens for call in of_server),
        bytes=trace.sent.bytes,
        seconds={stage: sum_or_none(of_stage) for stage, of_stage in seconds.items()},
        prefetching=Prefetching.of(trace),
    )


def server_calls(trace: Trace) -> list[Call]:
    names = {member.name for member in trace.members if member.role == "server"}
    return [call for call in trace.calls if call.member in names]


def seconds_of_calls(traces: Iterable[Trace]) -> dict[CallId, float]:
    """The durations of the calls that these traces made, as opposed to reused."""
    return {call_id(trace, call): call.seconds for trace in traces for call in trace.calls if not call.reused}


class Journal:
    """The journal of a run. It is read when it is first needed, since most runs made all of their calls themselves."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def seconds(self) -> Mapping[JournalId, float]:
        """The durations of the calls.

        The journal does not name a call's question. Calls that are alike in everything that it does keep share the mean
        of their durations, so that sums are right.
        """
        totals: dict[JournalId, tuple[float, int]] = {}
        for path in files(self._folder, CALLS):
            with path.open("rb") as lines:
                for line in lines:
                    try:
                        row = json.loads(line)
                        position = (row["member"], row["stage"], row["round"], row["sample"])
                        key = (*position, Usage(*row["usage"]), Sent(*row["sent"]))
                        total, count = totals.get(key, (0.0, 0))
                        totals[key] = total + row["seconds"], count + 1
                    except (ValueError, LookupError, TypeError):  # the last line of a run that was killed
                        continue
        return {key: total / count for key, (total, count) in totals.items()}


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
