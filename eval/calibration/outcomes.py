"""What skipping the server would have done to each question of a run in which it was asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from colm_vl.drift import is_changed, settled_draft
from colm_vl.errors import InputError
from colm_vl.gates.certificate import Source, signals, source_of
from colm_vl.types import Trace

from ..client_answers import reply_of
from ..run_folder import Evaluation
from ..types import ParsedReply, Reply, Rule


@dataclass(frozen=True, slots=True)
class Outcome:
    """One question. `signals` are None if the gate would ask in any case. `skipped_correct`: the drafts alone settle on
    a correct answer; `asked_correct`: the run did, with the server. `changed`: the two answers differ."""

    id: str
    signals: Mapping[str, float] | None
    skipped_correct: bool
    asked_correct: bool
    changed: bool
    groups: Mapping[str, str]

    @property
    def harm(self) -> bool:
        """Skipping the server would lose a correct answer."""
        return self.asked_correct and not self.skipped_correct


@dataclass(frozen=True, slots=True)
class Outcomes:
    """`source` is the kind of the drafts' confidences. `left_out` counts questions in which the server was not asked, a
    call failed or an answer could not be graded."""

    source: Source
    items: tuple[Outcome, ...]
    left_out: int


def outcomes(evaluation: Evaluation, strategy: str, rule: Rule) -> Outcomes:
    """Raises `InputError` if the run has no answers of the strategy, or never asked the server."""
    traces = evaluation.traces.get(strategy)
    if not traces:
        known = ", ".join(evaluation.traces)
        raise InputError(f"{evaluation.label}: no answers of {strategy!r}", hint=f"it has answers of {known}")
    scored = [trace for trace in traces if evaluation.items[trace.id].gold]
    usable = [trace for trace in scored if trace.gates and trace.gates[0].asked and not trace.degraded]
    if not usable:
        raise InputError(
            f"{evaluation.label}: the server was asked in none of {len(traces)} questions of {strategy!r}",
            hint="use a run with the gate always, or with --set shadow=true",
        )
    source = source_of([draft for trace in usable for draft in trace.drafts if draft.readable])
    skipped = _correct(evaluation, {trace.id: _without_server(trace) for trace in usable}, rule)
    asked = _correct(evaluation, {trace.id: reply_of(trace) for trace in usable}, rule)
    items = tuple(
        Outcome(
            trace.id,
            signals({draft.client: draft for draft in trace.drafts}, source),
            skipped[trace.id],
            asked[trace.id],
            is_changed(trace),
            evaluation.items[trace.id].groups,
        )
        for trace in usable
        if trace.id in skipped and trace.id in asked
    )
    return Outcomes(source, items, len(scored) - len(items))


def _without_server(trace: Trace) -> Reply:
    draft = settled_draft(trace)
    return Reply(draft.choice or draft.answer, settled=True) if draft else Reply("")


def _correct(evaluation: Evaluation, replies: Mapping[str, Reply], rule: Rule) -> Mapping[str, bool]:
    """Whether each reply is correct, by id, without those that cannot be graded."""
    benchmark, items = evaluation.benchmark, evaluation.items
    said = {key: reply.text for key, reply in replies.items() if reply.text}
    parsed = [
        ParsedReply(items[key], benchmark.parse(items[key], benchmark.format_answer(items[key], text), rule))
        for key, text in said.items()
    ]
    graded = zip(said, benchmark.scores(parsed), strict=True)
    return dict.fromkeys(replies.keys() - said.keys(), False) | {key: one.correct for key, one in graded if one}


def by_group(items: Iterable[Outcome], column: str) -> Mapping[str, Sequence[Outcome]]:
    """Raises `InputError` if an item has no such group."""
    found: dict[str, list[Outcome]] = {}
    for item in items:
        if column not in item.groups:
            known = ", ".join(item.groups) or "none"
            raise InputError(f"question {item.id} has no group {column!r}", hint=f"its groups: {known}")
        found.setdefault(item.groups[column], []).append(item)
    return found
