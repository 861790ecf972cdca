"""Runs the variants of an ablation on the same questions and says what they differ in."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from colm_vl import CoLM
from colm_vl.batch import CALLS
from colm_vl.team import Team
from colm_vl.types import Trace

from ..costs import CallId, seconds_of_calls
from ..names import slug
from ..report.document import Document, Grid, Plot, Text
from ..report.findings import StrategyFindings, as_json, findings
from ..report.plots import accuracy_plot, cost_plot
from ..running import Plan, run
from ..runs import read_evaluation
from ..show import seconds_each
from ..statistics import Paired, against
from .kinds import Ablation
from .variants import VARIANTS, Choices, Variant

_TITLES = {
    Ablation.ROUNDS: "How many rounds",
    Ablation.CLIENTS: "How many clients",
    Ablation.DIVERSITY: "Different clients against copies of one",
    Ablation.SERVER: "A server weakened on purpose",
    Ablation.GUIDANCE: "Without guidance",
    Ablation.REFINEMENT: "Without refinement",
}


@dataclass(frozen=True, slots=True)
class Study:
    """The content of the report, and the same as plain JSON."""

    content: Document
    data: dict[str, Any]


def study(
    kind: Ablation,
    team: Team,
    plan: Plan,
    out: Path,
    choices: Choices,
    *,
    concurrency: int = 16,
    told: Callable[[Trace], object] = lambda _: None,
) -> Study:
    """Resumable: each variant has its folder in `out`, and starts from the calls that the earlier ones have made."""
    found: list[StrategyFindings] = []
    data: list[dict[str, Any]] = []
    seconds: dict[CallId, float] = {}
    previous: Path | None = None
    for variant in VARIANTS[kind](team, choices, out):
        folder = out / slug(variant.name)
        start_from(previous, folder)
        _run(variant, plan, folder, concurrency, told)
        evaluation = read_evaluation(folder)
        seconds |= seconds_of_calls(evaluation.traces[variant.strategy])
        result = findings(evaluation, elsewhere=seconds)
        found.append(replace(result.strategies[0], name=variant.name))
        data.append({"variant": variant.name, **as_json(result)})
        previous = folder
    pairs = against(found[0].name, {one.name: one.right for one in found})
    content = _document(kind, plan, found, pairs)
    return Study(content, {"ablation": kind.value, "variants": data})


def _run(variant: Variant, plan: Plan, folder: Path, concurrency: int, told: Callable[[Trace], object]) -> None:
    team = variant.team.with_policy(**variant.policy) if variant.policy else variant.team
    with CoLM(team, backends=variant.backends) as colm:
        for trace in run(colm, plan, [variant.strategy], folder, concurrency=concurrency):
            told(trace)


def start_from(previous: Path | None, folder: Path) -> None:
    """Calls are kept by what they depend on: those of another variant that are the same call need not be made again."""
    if previous is not None and (previous / CALLS).exists() and not (folder / CALLS).exists():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(previous / CALLS, folder / CALLS)


def _document(kind: Ablation, plan: Plan, found: Sequence[StrategyFindings], pairs: Sequence[Paired]) -> Document:
    title = f"{_TITLES[kind]}: {plan.benchmark.title}"
    head = (
        "variant", "accuracy", "95 % interval", f"against {found[0].name}", "95 % interval", "p adjusted",
        "put right", "spoilt", "server calls", "tokens", "KB sent", "seconds",
    )  # fmt: skip
    by_name = {pair.one: pair for pair in pairs}
    rows = tuple((*_row(one, by_name.get(one.name)), *_costs(one)) for one in found)
    names = [one.name for one in found]
    accuracy = accuracy_plot(names, [one.accuracy for one in found], [one.interval for one in found])
    points = [one.point for one in found]
    return Document(
        title,
        (
            Text(
                f"{len(plan.items)} questions, rule strict, the same for each variant. Differences in percentage "
                "points, with bootstrap intervals; exact McNemar p, adjusted for this table (Holm). Put right: of the "
                "answers that were wrong, how many refining mended; spoilt: of the right ones, how many it broke. "
                "Calls, tokens, kilobytes and seconds are for each question; tokens are prompts and completions, and "
                "what a cache held of a prompt counts, too, so that the order of the variants makes no difference."
            ),
            Grid(head, rows, frozenset({0})),
            Plot(f"{kind.value}-accuracy.png", accuracy, "Accuracy of each variant with its 95 % interval"),
            Plot(f"{kind.value}-cost.png", cost_plot(points, "tokens a question"), "Accuracy over tokens"),
        ),
    )


def _row(one: StrategyFindings, pair: Paired | None) -> tuple[str, ...]:
    compared = ("", "", "")
    if pair is not None:
        low, high = 100 * pair.interval.low, 100 * pair.interval.high
        compared = (f"{100 * pair.difference:+.1f}", f"{low:+.1f} to {high:+.1f}", f"{pair.p_adjusted:.3f}")
    fixed, failed = (sum(getattr(row, name) for row in _clients(one)) for name in ("fixed", "failed_before"))
    spoilt, right = (sum(getattr(row, name) for row in _clients(one)) for name in ("spoilt", "right_before"))
    return (
        one.name,
        f"{one.accuracy:.1%}",
        f"{one.interval.low:.1%} to {one.interval.high:.1%}",
        *compared,
        f"{fixed / failed:.1%}" if failed else "–",
        f"{spoilt / right:.1%}" if right else "–",
    )


def _clients(one: StrategyFindings) -> list[Any]:
    return [row for row in one.flips if row.client != "all"]


def _costs(one: StrategyFindings) -> tuple[str, ...]:
    cost, items = one.cost, max(one.cost.items, 1)
    return (
        f"{cost.server_calls / items:.2f}",
        f"{cost.tokens_each:.0f}",
        f"{cost.bytes / items / 1000:.1f}",
        seconds_each(cost.total_seconds, items),
    )
