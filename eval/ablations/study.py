"""Runs the variants of an ablation on the same questions and compares them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from colm_vl import CoLM
from colm_vl.batch import CALLS
from colm_vl.team import Team

from ..costs import CallId, seconds_of_calls
from ..evaluator import Plan, run
from ..flips import CORRECTED, REGRESSED
from ..report.document import Document, Plot, Table, Text
from ..report.plots import accuracy_plot, cost_plot
from ..report.strategy import StrategySummary
from ..report.summary import as_json, summarize
from ..run_folder import read_evaluation
from ..slug import slug
from ..statistics import PairedComparison, against
from ..tables import between, p_value, seconds_each
from .kinds import Ablation
from .variants import VARIANTS, AblationSettings, Variant

_TITLES = {
    Ablation.ROUNDS: "How many rounds",
    Ablation.CLIENTS: "How many clients",
    Ablation.DIVERSITY: "Different clients or copies of one",
    Ablation.SERVER: "A weakened server",
    Ablation.GUIDANCE: "Without guidance",
    Ablation.REFINEMENT: "Without refinement",
}


@dataclass(frozen=True, slots=True)
class Study:
    """The report of an ablation, as a document and as JSON."""

    content: Document
    data: dict[str, Any]


def study(
    kind: Ablation,
    team: Team,
    plan: Plan,
    out: Path,
    settings: AblationSettings,
    *,
    concurrency: int = 16,
) -> Study:
    """Run every variant. Resumable: each has its own folder in `out`, and reuses the calls of the earlier ones."""
    found: list[StrategySummary] = []
    data: list[dict[str, Any]] = []
    seconds: dict[CallId, float] = {}
    previous: Path | None = None
    for variant in VARIANTS[kind](team, settings, out):
        folder = out / slug(variant.name)
        start_from(previous, folder)
        _run(variant, plan, folder, concurrency)
        evaluation = read_evaluation(folder)
        seconds |= seconds_of_calls(evaluation.traces[variant.strategy])
        result = summarize(evaluation, elsewhere=seconds)
        found.append(replace(result.strategies[0], name=variant.name))
        data.append({"variant": variant.name, **as_json(result)})
        previous = folder
    pairs = against(found[0].name, {one.name: one.grades for one in found})
    content = _document(kind, plan, found, pairs)
    return Study(content, {"ablation": kind.value, "variants": data})


def _run(variant: Variant, plan: Plan, folder: Path, concurrency: int) -> None:
    team = variant.team.with_policy(**variant.policy) if variant.policy else variant.team
    with CoLM(team, backends=variant.backends) as colm:
        for _ in run(colm, plan, [variant.strategy], folder, concurrency=concurrency):
            pass


def start_from(previous: Path | None, folder: Path) -> None:
    """Copy another variant's journal. Its keys cover all that a call depends on, so equal calls are not repeated."""
    if previous is not None and (previous / CALLS).exists() and not (folder / CALLS).exists():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(previous / CALLS, folder / CALLS)


def _document(
    kind: Ablation, plan: Plan, found: Sequence[StrategySummary], pairs: Sequence[PairedComparison]
) -> Document:
    title = f"{_TITLES[kind]}: {plan.benchmark.title}"
    head = (
        "variant", "accuracy", "95 % interval", f"vs. {found[0].name}", "95 % interval", "p adjusted",
        "corrected", "regressed", "server calls", "tokens", "KB sent", "seconds",
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
                f"{len(plan.items)} questions, the same for each variant, rule strict. Differences are in percentage "
                "points, with bootstrap intervals and McNemar's exact p, adjusted for this table (Holm). "
                f"{CORRECTED} {REGRESSED} Calls, tokens, kilobytes and seconds are per question. Tokens include cached "
                "ones, so the order of the variants makes no difference."
            ),
            Table(head, rows, frozenset({0})),
            Plot(f"{kind.value}-accuracy.png", accuracy, "Accuracy of each variant with its 95 % interval"),
            Plot(f"{kind.value}-cost.png", cost_plot(points, "tokens per question"), "Accuracy against tokens"),
        ),
    )


def _row(one: StrategySummary, pair: PairedComparison | None) -> tuple[str, ...]:
    compared = ("", "", "")
    if pair is not None:
        low, high = 100 * pair.interval.low, 100 * pair.interval.high
        compared = (f"{100 * pair.difference:+.1f}", f"{low:+.1f} to {high:+.1f}", p_value(pair.p_adjusted))
    rows = [row for row in one.flips if row.client != "all"]
    wrong, correct = sum(row.wrong_before for row in rows), sum(row.correct_before for row in rows)
    return (
        one.name,
        f"{one.accuracy:.1%}",
        between(one.interval),
        *compared,
        f"{sum(row.corrected for row in rows) / wrong:.1%}" if wrong else "–",
        f"{sum(row.regressed for row in rows) / correct:.1%}" if correct else "–",
    )


def _costs(one: StrategySummary) -> tuple[str, ...]:
    cost, items = one.cost, max(one.cost.items, 1)
    return (
        f"{cost.server_calls / items:.2f}",
        f"{cost.tokens_each:.0f}",
        f"{cost.bytes / items / 1000:.1f}",
        seconds_each(cost.total_seconds, items),
    )
