"""HTML of a question's costs (time, tokens, bytes sent), and of the comparison of strategies."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from colm_vl import Call, Failure, Trace, strategies
from colm_vl.answers import same
from colm_vl.types import STAGE_TITLES, Stage

from .draw import labelled, tag, text
from .markup import rich_line
from .view import calls_avoided

_AVOIDED = {"agreed": "the drafts agreed", "not selected": "not selected", "reused": "made before"}


def account(trace: Trace | None) -> str:
    """The tiles and the timeline, or "" if there is no finished question."""
    if trace is None or not (trace.calls or trace.failures):
        return ""
    heading = tag("h2", "Costs")
    return tag("section", heading + _tiles(trace) + _timeline(trace), "cv-account", aria_label="Costs")


def _tiles(trace: Trace) -> str:
    usage, sent, avoided = trace.usage, trace.sent, calls_avoided(trace)
    computed = usage.prompt_tokens - usage.cached_tokens
    reused = f"{usage.cached_tokens:,} more were reused" if usage.cached_tokens else "none were reused"
    calls = f"{sum(avoided.values())} avoided: {_why(avoided)}" if avoided else "none avoided"
    failed = sum(failure.member is not None for failure in trace.failures)
    calls = f"{failed} of them failed; {calls}" if failed else calls
    pictures = f"with {sent.images} pictures" if sent.images else "no pictures"
    tiles = (
        ("Time", f"{trace.seconds:.1f} s", _longest(trace)),
        ("Model calls", f"{len(trace.calls) + failed}", calls),
        ("Tokens read", f"{computed:,}", reused),
        ("Tokens written", f"{usage.completion_tokens:,}", f"by {len({call.member for call in trace.calls})} models"),
        ("Sent to endpoints", _size(sent.bytes), pictures if sent.bytes else "all models run on this machine"),
    )
    return tag("dl", "".join(_tile(*tile) for tile in tiles), "cv-tiles")


def _tile(name: str, value: str, more: str) -> str:
    inside = tag("dt", text(name)) + tag("dd", text(value), "cv-figure") + tag("dd", text(more), "cv-more")
    return tag("div", inside, "cv-tile")


def _why(avoided: Mapping[str, int]) -> str:
    return ", ".join(_AVOIDED[why] for why in avoided)


def _longest(trace: Trace) -> str:
    """The stage that took the most time, from the start of its first call to the end of its last."""
    made: list[Call | Failure] = [*trace.calls, *trace.failures]
    spans = {stage: _span([call for call in made if call.stage == stage]) for stage in STAGE_TITLES}
    stage = max(spans, key=lambda name: spans[name])
    return f"{STAGE_TITLES[stage].lower()} took {spans[stage]:.1f} s"


def _span(calls: Sequence[Call | Failure]) -> float:
    if not calls:
        return 0.0
    return max(call.started + call.seconds for call in calls) - min(call.started for call in calls)


def _timeline(trace: Trace) -> str:
    made: list[Call | Failure] = [*trace.calls, *(failure for failure in trace.failures if failure.member)]
    total = max(trace.seconds, *(call.started + call.seconds for call in made), 1e-6)
    titles = ("Stage", "Model", "When", "Seconds", "Read", "Reused", "Written", "Sent")
    head = tag("tr", "".join(tag("th", name, scope="col") for name in titles))
    order = {name: place for place, name in enumerate(STAGE_TITLES)}
    calls = sorted(made, key=lambda call: (call.round, order[call.stage], call.started))
    rows = "".join(_row(call, total) for call in calls)
    table = tag("table", tag("caption", "Timeline of the model calls") + tag("thead", head) + tag("tbody", rows))
    # A scrollable region must be reachable by keyboard.
    return tag("div", table, "cv-scroll", tabindex="0", role="region", aria_label="Timeline of the calls")


def _row(call: Call | Failure, total: float) -> str:
    stage = STAGE_TITLES[call.stage] + (f" {call.round}" if call.round > 1 else "")
    # Percentages of the track's width; the remaining 4 % separate the last bar from the figures. Both are numbers, so
    # nothing needs escaping.
    left, width = 96 * min(call.started / total, 0.994), 96 * min(max(call.seconds / total, 0.006), 1)
    bar = f'<span class="cv-when cv-{call.stage}" style="left:{left:.1f}%;width:{width:.1f}%"></span>'
    cells = tag("th", text(stage), scope="row") + tag("td", text(call.member)) + tag("td", bar, "cv-track")
    if isinstance(call, Failure):
        failed = tag("td", text(f"{call.seconds:.1f}"), "cv-number") + tag("td", "failed", "cv-idle", colspan=4)
        return tag("tr", cells + failed)
    seconds = "reused" if call.reused else f"{call.seconds:.1f}"
    figures = (
        seconds,
        f"{call.usage.prompt_tokens - call.usage.cached_tokens:,}",
        f"{call.usage.cached_tokens:,}",
        f"{call.usage.completion_tokens:,}",
        _size(call.sent.bytes),
    )
    return tag("tr", cells + "".join(tag("td", text(figure), "cv-number") for figure in figures))


def _size(count: int) -> str:
    if count < 1000:
        return f"{count} B" if count else "nothing"
    return f"{count / 1000:.1f} kB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"


# --- comparison of strategies ---


class _Key(NamedTuple):
    """Identifies a call within one question."""

    member: str
    stage: Stage
    round: int
    sample: int


@dataclass(frozen=True, slots=True)
class Compared:
    """The trace of one strategy, and the seconds that it takes without calls reused from other strategies."""

    trace: Trace
    seconds: float


def compared(traces: Iterable[Trace]) -> Sequence[Compared]:
    """Add to each trace's time what its reused calls took when they were made."""
    rows, took = [], dict[_Key, float]()
    for trace in traces:
        for call in trace.calls:
            if not call.reused:
                took[_key(call)] = call.seconds
        reused = [call for call in trace.calls if call.reused]
        waves = {(call.stage, call.round) for call in reused}
        spared = sum(
            max(took.get(_key(call), 0.0) for call in reused if (call.stage, call.round) == wave) for wave in waves
        )
        rows.append(Compared(trace, trace.seconds + spared))
    return rows


def comparison(rows: Sequence[Compared], truth: str, waiting: Sequence[str] = ()) -> str:
    """The table of strategies. `waiting` are those that have not answered yet."""
    titles = ("Strategy", "Answer", "Right" if truth else "", "Calls", "Tokens", "Seconds", "Sent")
    head = tag("tr", "".join(tag("th", name, scope="col") for name in titles if name))
    body = "".join(_compared_row(row, truth) for row in rows)
    body += "".join(
        tag("tr", tag("th", text(name), scope="row") + tag("td", "working", "cv-idle cv-busy", colspan=len(titles) - 1))
        for name in waiting
    )
    caption = tag("caption", "The same question, answered with other strategies; drafts are shared")
    table = tag("table", caption + tag("thead", head) + tag("tbody", body), "cv-compare")
    words = tag("p", text(_conclusion(rows, truth)), "cv-by") if not waiting else ""
    return tag("div", table, "cv-scroll", tabindex="0", role="region", aria_label="Strategies compared") + words


def blind_comparison(traces: Sequence[Trace]) -> str:
    """The different answers in a random order, each with the number of strategies that gave it, and without names."""
    answers: list[list[Trace]] = []
    for trace in traces:
        group = next((group for group in answers if _alike(group[0].answer, trace.answer)), None)
        if group is None:
            answers.append([trace])
        else:
            group.append(trace)
    random.shuffle(answers)
    said = (labelled(group[0].choice, group[0].answer) if group[0].answer else "no answer" for group in answers)
    rows = (
        tag("li", tag("span", rich_line(one), "cv-said", dir="auto") + text(f" from {len(group)} of {len(traces)}"))
        for one, group in zip(said, answers, strict=True)
    )
    return tag("ol", "".join(rows), "cv-blind", aria_label="Answers without names")


def _alike(first: str, second: str) -> bool:
    """Also if there is no answer, which is not the same as another."""
    return first == second or same(first, second)


def _compared_row(row: Compared, truth: str) -> str:
    trace, usage = row.trace, row.trace.usage
    said = labelled(trace.choice, trace.answer) if trace.answer else "no answer"
    cells = tag("th", text(trace.strategy), scope="row") + tag("td", rich_line(said))
    if truth:
        right = _says(trace, truth)
        cells += tag("td", tag("span", "right" if right else "wrong", f"cv-chip cv-{'right' if right else 'wrong'}"))
    tokens = usage.prompt_tokens + usage.completion_tokens
    figures = (f"{len(trace.calls)}", f"{tokens:,}", f"{row.seconds:.1f}", _size(trace.sent.bytes))
    return tag("tr", cells + "".join(tag("td", text(figure), "cv-number") for figure in figures))


def _conclusion(rows: Sequence[Compared], truth: str) -> str:
    """A sentence about the result, with a reminder that one question proves little."""
    single = [row.trace for row in rows if strategies.find(row.trace.strategy).one_model]
    team = next((row.trace for row in rows if _is_method(row.trace)), None)
    if team is None or not single:
        return ""
    if truth:
        right = [trace.strategy for trace in single if _says(trace, truth)]
        which = f" ({', '.join(right)})" if right else ""
        verdict = "right" if _says(team, truth) else "wrong"
        return (
            f"{len(right)} of {len(single)} single models were right{which}; the team's answer is {verdict}. "
            "One question proves little."
        )
    alike = [trace.strategy for trace in single if _says(trace, team.answer)]
    return f"{len(alike)} of {len(single)} single models gave the team's answer. One question proves little."


def _is_method(trace: Trace) -> bool:
    """Whether clients refined their answers with guidance from the server."""
    strategy = strategies.find(trace.strategy)
    return strategy.refines and strategy.needs_server and not strategy.server_answers


def _says(trace: Trace, answer: str) -> bool:
    return bool(trace.answer) and same(trace.answer, answer)


def _key(call: Call) -> _Key:
    return _Key(call.member, call.stage, call.round, call.sample)
