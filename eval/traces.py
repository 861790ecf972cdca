"""From traces to what a benchmark scores: the settled answer, and each client's answer at each stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from colm_vl.types import ClientReply, Trace, Verdict

from .benchmarks.base import Benchmark
from .items import Item, Reply, Rule

DRAFT = 0
"""The round in which clients draft; refinements are of round 1 and on."""


def reply_of(trace: Trace) -> Reply:
    """What the trace settled on; an empty reply where it settled on nothing."""
    settlement = trace.settlement
    if settlement is None:
        return Reply("")
    return Reply(settlement.choice or settlement.answer, settled=True)


def said(benchmark: Benchmark, item: Item, draft: ClientReply | Verdict) -> str:
    """A client's answer; its raw words where nothing was read from them, so that the benchmark's reader may try."""
    answer = draft.choice or draft.answer
    return benchmark.phrase(item, answer) if answer else draft.text


@dataclass(frozen=True, slots=True)
class Stand:
    """What one client answered to one item in one round, and whether that was right."""

    item: str
    client: str
    round: int
    answer: str
    right: bool


def stands(benchmark: Benchmark, items: Mapping[str, Item], traces: Sequence[Trace], rule: Rule) -> list[Stand]:
    """What every client answers after each round, in their order. As in the trace, a refinement that cannot be read
    leaves its client at the answer that it had."""
    found: list[Stand] = []
    for trace in traces:
        item = items[trace.id]
        latest: dict[str, ClientReply] = {}
        rounds: list[tuple[int, ClientReply]] = [(DRAFT, draft) for draft in trace.drafts]
        for round_, reply in [*rounds, *((refined.round, refined) for refined in trace.refinements)]:
            if round_ == DRAFT or reply.readable or reply.client not in latest:
                latest[reply.client] = reply
            draft = latest[reply.client]
            reading = benchmark.read(item, said(benchmark, item, draft), rule)
            right = reading.how != "unread" and benchmark.right(item, reading)
            found.append(Stand(trace.id, draft.client, round_, reading.value, right))
    return found
