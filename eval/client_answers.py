"""Answers of a trace in the form that is scored: the final answer, and each client's answer after each round."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from colm_vl.types import ClientReply, Trace

from .benchmarks.base import Benchmark
from .types import Item, ParsedReply, Reply, Rule

DRAFT = 0
"""The round of the drafts; refinements have rounds 1 and up."""


def reply_of(trace: Trace) -> Reply:
    """The final answer of a trace, or an empty reply if there is none."""
    settlement = trace.settlement
    if settlement is None:
        return Reply("")
    return Reply(settlement.choice or settlement.answer, settled=True)


@dataclass(frozen=True, slots=True)
class ClientAnswer:
    """What one client answered to one item in one round, and whether it is correct."""

    item: str
    client: str
    round: int
    answer: str
    correct: bool


def client_answers(
    benchmark: Benchmark, items: Mapping[str, Item], traces: Sequence[Trace], rule: Rule
) -> list[ClientAnswer]:
    """Every client's answer after each round, in the order of the traces, without those that cannot be graded.

    As in the trace, a refinement without a readable answer leaves the client's previous answer in place.
    """
    said = [one for trace in traces if items[trace.id].gold for one in _said(trace)]
    parsed = [
        ParsedReply(
            items[one.item], benchmark.parse(items[one.item], _text(benchmark, items[one.item], one.reply), rule)
        )
        for one in said
    ]
    return [
        ClientAnswer(one.item, one.reply.client, one.round, found.parsed.value, score.correct)
        for one, found, score in zip(said, parsed, benchmark.scores(parsed), strict=True)
        if score
    ]


@dataclass(frozen=True, slots=True)
class _Said:
    """The reply that counts for a client after a round."""

    item: str
    round: int
    reply: ClientReply


def _said(trace: Trace) -> Iterator[_Said]:
    latest: dict[str, ClientReply] = {}
    rounds: list[tuple[int, ClientReply]] = [(DRAFT, draft) for draft in trace.drafts]
    for round_, reply in [*rounds, *((refined.round, refined) for refined in trace.refinements)]:
        if round_ == DRAFT or reply.readable or reply.client not in latest:
            latest[reply.client] = reply
        yield _Said(trace.id, round_, latest[reply.client])


def _text(benchmark: Benchmark, item: Item, reply: ClientReply) -> str:
    """What the benchmark's parser gets: the client's answer, or its whole reply if no answer was found in it."""
    answer = reply.choice or reply.answer
    return benchmark.format_answer(item, answer) if answer else reply.text
