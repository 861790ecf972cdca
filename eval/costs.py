"""What a strategy costs, as if it had been run by itself, and which strategies are worth it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from colm_vl.types import Call, Trace

CallId = tuple[str, str, str, int, int, int, int]


@dataclass(frozen=True, slots=True)
class Cost:
    """Sums over `items` questions. `seconds` are of model calls, by stage, as if one came after the other; `avoided`
    counts the server calls that a gate spared."""

    items: int
    calls: int
    server_calls: int
    avoided: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    server_tokens: int
    bytes: int
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        """What was computed: prompts less what a cache held, and completions."""
        return self.prompt_tokens - self.cached_tokens + self.completion_tokens

    @property
    def total_seconds(self) -> float:
        return sum(self.seconds.values())


def cost(traces: Sequence[Trace], known_seconds: Mapping[CallId, float]) -> Cost:
    """A call that was shared with another strategy counts here too, with the time that it took there."""
    calls = [(trace, call) for trace in traces for call in trace.calls]
    servers = {member.name for trace in traces for member in trace.members if member.role == "server"}
    of_server = [call for _, call in calls if call.member in servers]
    seconds: defaultdict[str, float] = defaultdict(float)
    for trace, call in calls:
        seconds[call.stage] += known_seconds.get(_id(trace, call), 0.0) if call.reused else call.seconds
    return Cost(
        items=len(traces),
        calls=len(calls),
        server_calls=len(of_server),
        avoided=sum(not gate.asked for trace in traces for gate in trace.gates),
        prompt_tokens=sum(call.usage.prompt_tokens for _, call in calls),
        cached_tokens=sum(call.usage.cached_tokens for _, call in calls),
        completion_tokens=sum(call.usage.completion_tokens for _, call in calls),
        server_tokens=sum(
            call.usage.prompt_tokens - call.usage.cached_tokens + call.usage.completion_tokens for call in of_server
        ),
        bytes=sum(call.sent.bytes for _, call in calls),
        seconds=dict(seconds),
    )


def seconds_of_calls(traces: Sequence[Trace]) -> dict[CallId, float]:
    """How long each call took when it was made, so that those who re-used it can be charged."""
    return {_id(trace, call): call.seconds for trace in traces for call in trace.calls if not call.reused}


def _id(trace: Trace, call: Call) -> CallId:
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
class Point:
    """A strategy in the plane of cost and accuracy."""

    name: str
    cost: float
    accuracy: float


def pareto(points: Sequence[Point]) -> list[Point]:
    """Those that no other beats in one without losing in the other, cheapest first."""
    front: list[Point] = []
    for point in sorted(points, key=lambda one: (one.cost, -one.accuracy)):
        if not front or point.accuracy > front[-1].accuracy:
            front.append(point)
    return front
