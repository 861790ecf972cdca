"""Results as tables for a terminal and as JSON, and how numbers are written in tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from .agreement import Agreement
from .benchmarks.base import Benchmark
from .calibration.certify import Calibration
from .labelled import Labelled, metric_counts
from .statistics import Interval
from .types import Metric, Results

SMALL_SAMPLE = 100
"""With fewer questions than this, an interval is wider than most published differences."""


def seconds_each(seconds: float | None, items: int) -> str:
    return "–" if seconds is None else f"{seconds / max(items, 1):.3f}"


def between(interval: Interval) -> str:
    return f"{interval.low:.1%} to {interval.high:.1%}"


def as_count(correct: float) -> str:
    """The sum of grades: a count, unless there is partial credit."""
    return f"{correct:.0f}" if float(correct).is_integer() else f"{correct:.1f}"


def p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def benchmark_table(benchmarks: Iterable[Benchmark]) -> Table:
    """All benchmarks, those with images first."""
    table = Table(title="colm-vl eval run NAME …")
    for heading in ("name", "benchmark", "splits", "note"):
        table.add_column(heading, overflow="fold")
    for one in sorted(benchmarks, key=lambda one: one.modality, reverse=True):
        note = one.note if one.modality == "vision" else f"text; {one.note}"
        table.add_row(one.name, one.title, ", ".join(one.splits), note)
    return table


def certificate_table(calibration: Calibration) -> Table:
    certificate = calibration.certificate
    table = Table(title="Certificate", show_header=False)
    rows = {
        "promise": certificate.promise,
        "threshold": f"{certificate.threshold:.4f}",
        "tested on": f"{certificate.items} questions of {certificate.run}, after fitting the score on "
        f"{certificate.fitted_items} others",
        "server skipped": f"{certificate.skipped:.1%} of them",
        "harmed": f"{certificate.harms} of them",
        "accuracy": f"{calibration.curve_at(certificate.threshold):.1%} with the gate, "
        f"{calibration.asked_accuracy:.1%} if the server is always asked, {calibration.skipped_accuracy:.1%} if never",
    }
    if certificate.groups:
        rows["for each group of"] = ", ".join(f"{name} ({len(of)})" for name, of in certificate.groups.items())
    if calibration.left_out:
        rows["left out"] = f"{calibration.left_out} questions in which the server was not asked or a call failed"
    for name, value in rows.items():
        table.add_row(name, escape(value))
    return table


def results_tables(benchmark: Benchmark, results: Results) -> Iterator[RenderableType]:
    if results.missing:
        total = len(results.scores) + len(results.missing)
        yield (
            f"[bold]Partial:[/bold] {len(results.scores)} of {total} questions have a prediction "
            f"({results.coverage:.1%}). The figures cover only these and cannot be compared with others."
        )
    table = Table(
        title=f"{benchmark.title}, rule {results.rule.value}" if len(benchmark.rules) > 1 else benchmark.title
    )
    table.add_column("metric")
    for heading in ("correct", "total", "accuracy", "95 % interval"):
        table.add_column(heading, justify="right")
    for metric in results.metrics:
        style = "bold" if metric.group in {"overall", "discipline"} else ""
        table.add_row(*_cells(metric), style=style)
    yield table
    if results.unscored:
        yield f"Not scored: {results.unscored} questions without a gold answer."
    yield "Parsed by: " + ", ".join(f"{how} {count}" for how, count in results.parsed_by.items())
    if results.reply_column:
        yield f"Replies: column {escape(results.reply_column)}"
    yield from map(escape, results.notes)


def _cells(metric: Metric) -> tuple[str, ...]:
    accuracy = f"{metric.points:.1f} points" if metric.points is not None else f"{metric.accuracy:.2%}"
    few = " (few)" if metric.total < SMALL_SAMPLE else ""
    interval = between(metric.interval) + few
    return (metric.name, as_count(metric.correct), str(metric.total), accuracy, interval)


def agreement_table(agreement: Agreement) -> Iterator[RenderableType]:
    yield "Grades by people (rows) and by the metric (columns):"
    table = Table()
    table.add_column("people", justify="right")
    for grade in agreement.grades:
        table.add_column(f"{grade:g}", justify="right")
    for grade, counts in zip(agreement.grades, agreement.counts, strict=True):
        table.add_row(f"{grade:g}", *map(str, counts))
    yield table
    kappa, interval = agreement.kappa, agreement.interval
    shown = "undefined: all grades are the same" if kappa is None else f"{kappa:.2f}"
    limits = f", 95 % interval {interval.low:.2f} to {interval.high:.2f}" if interval else ""
    yield f"Cohen's kappa: {shown}{limits}; the same grade for {agreement.same} of {agreement.total} replies"


def check_lines(labelled: Labelled, answer_column: str, group_columns: Sequence[str], metric: str) -> Iterator[str]:
    """What was understood of a file of questions."""
    scored = len(labelled.items) - labelled.unscored
    yield f"{len(labelled.items)} questions can be asked; {len(labelled.problems)} rows cannot be used"
    yield f"gold answers: {scored}, in column {answer_column}; {labelled.unscored} questions without one are not scored"
    if scored:
        decided = "" if metric else "; decided by the gold answers, --metric chooses another"
        yield f"metric: {metric_counts(labelled.items)}{decided}"
    values = labelled.groups()
    for column in group_columns:
        yield f"group column {column}: {values.get(column, 0)} values"


def results_as_json(results: Results) -> dict[str, Any]:
    return {
        "benchmark": results.benchmark,
        "rule": results.rule.value,
        "coverage": results.coverage,
        "missing": list(results.missing),
        "unscored": results.unscored,
        "reply_column": results.reply_column,
        "parsed_by": dict(results.parsed_by),
        "notes": list(results.notes),
        "metrics": [_metric_as_json(metric) for metric in results.metrics],
    }


def _metric_as_json(metric: Metric) -> dict[str, Any]:
    interval = metric.interval
    return {
        "name": metric.name,
        "group": metric.group,
        "correct": metric.correct,
        "total": metric.total,
        "accuracy": metric.accuracy,
        "points": metric.points,
        "low": interval.low,
        "high": interval.high,
    }
