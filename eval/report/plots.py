"""The plots of a report, as PNG. Type is large enough for phones, and colour alone carries no meaning."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from colm_vl.extras import require
from colm_vl.types import STAGE_TITLES

from ..calibration.certify import Calibration
from ..costs import CostPoint, pareto
from ..durations import RunTime, by_stage
from ..flips import Flips
from ..statistics import Interval

_BLUE, _GREEN, _RED, _GREY, _LIGHT = "#1f6feb", "#2da44e", "#cf222e", "#6e7781", "#d0d7de"
_SIZE = (4.8, 3.8)


def accuracy_plot(names: Sequence[str], shares: Sequence[float], intervals: Sequence[Interval]) -> bytes:
    """Accuracy with its interval, one row per strategy."""
    figure, axes = _figure(height=1.6 + 0.45 * len(names))
    positions = list(range(len(names)))
    for position, share, interval in zip(positions, shares, intervals, strict=True):
        axes.plot([100 * interval.low, 100 * interval.high], [position, position], color=_GREY, linewidth=2, zorder=1)
        axes.plot(100 * share, position, "o", color=_BLUE, markersize=9, zorder=2)
        axes.annotate(
            f"{share:.1%}", (100 * share, position), (0, 8), textcoords="offset points", ha="center", fontsize=10
        )
    axes.set_yticks(positions, names)
    axes.set_ylim(len(names) - 0.4, -0.8)
    axes.set_xlabel("accuracy, %, with 95 % interval")
    return _png(figure)


def cost_plot(points: Sequence[CostPoint], cost_label: str) -> bytes:
    """Accuracy against cost, with the Pareto front as a line."""
    figure, axes = _figure()
    front = pareto(points)
    axes.step(
        [point.cost for point in front], [100 * point.accuracy for point in front], where="post", color=_GREEN, zorder=1
    )
    best = {point.name for point in front}
    for point in points:
        on_front = point.name in best
        axes.plot(
            point.cost,
            100 * point.accuracy,
            "o" if on_front else "x",
            color=_GREEN if on_front else _GREY,
            markersize=9,
        )
    _label(axes, points)
    axes.set_xlabel(cost_label)
    axes.set_ylabel("accuracy, %")
    axes.margins(x=0.12, y=0.15)
    axes.set_title("● on the Pareto front   ✕ below it", fontsize=11, color=_GREY, loc="left")
    return _png(figure)


def _label(axes: Any, points: Sequence[CostPoint]) -> None:
    """Put each name above its point, or below where it would overlap a neighbour."""
    tops: list[CostPoint] = []
    width = max((point.cost for point in points), default=1.0) or 1.0
    for point in sorted(points, key=lambda one: (-one.accuracy, one.cost)):
        crowded = any(
            abs(point.cost - other.cost) < 0.18 * width and abs(point.accuracy - other.accuracy) < 0.02
            for other in tops
        )
        offset = (6, -14) if crowded else (6, 6)
        axes.annotate(point.name, (point.cost, 100 * point.accuracy), offset, textcoords="offset points", fontsize=10)
        tops.append(point)


def flip_plot(rows: Sequence[Flips]) -> bytes:
    """Numbers of corrected (right of the line) and regressed answers (left of it), for each client and round."""
    figure, axes = _figure(height=1.8 + 0.5 * len(rows))
    positions = list(range(len(rows)))
    names = [f"{row.client}, round {row.round}" for row in rows]
    for position, row in zip(positions, rows, strict=True):
        axes.barh(position, row.corrected, color=_GREEN, height=0.6, label="corrected" if position == 0 else None)
        axes.barh(
            position, -row.regressed, color=_RED, height=0.6, hatch="//", edgecolor="white",
            label="regressed" if position == 0 else None,
        )  # fmt: skip
        axes.annotate(
            f"+{row.corrected}", (row.corrected, position), (4, 0), textcoords="offset points", va="center", fontsize=10
        )
        axes.annotate(
            f"−{row.regressed}",
            (-row.regressed, position),
            (-4, 0),
            textcoords="offset points",
            va="center",
            ha="right",
            fontsize=10,
        )
    widest = max([1, *(max(row.corrected, row.regressed) for row in rows)])
    axes.set_xlim(-1.25 * widest, 1.25 * widest)
    axes.axvline(0, color=_GREY, linewidth=1)
    axes.set_yticks(positions, names)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("questions")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False, fontsize=10)
    return _png(figure)


def line_plot(names: Sequence[str], series: Mapping[str, Sequence[float]], x_label: str, y_label: str) -> bytes:
    """One line per series, over named positions on the x axis."""
    figure, axes = _figure()
    positions = list(range(len(names)))
    for marker, (label, values) in zip("os^Dv*", series.items(), strict=False):
        axes.plot(positions, values, marker=marker, label=label, linewidth=1.6)
    long = max(map(len, names), default=0) > 8
    axes.set_xticks(
        positions,
        names,
        rotation=45 if long else 0,
        ha="right" if long else "center",
    )
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.set_ylim(bottom=0)
    if len(series) > 1:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=9)
    return _png(figure)


def arrivals_plot(
    lines: Mapping[int, Sequence[tuple[float, float]]],
    *,
    arrivals: float | None = None,
    target: float | None = None,
    measured: Sequence[tuple[float, float]] = (),
) -> bytes:
    """The simulated 95th percentile of response times by questions per second, one line for each number of servers.

    `arrivals` and `target` are what is promised. `measured` points are drawn beside the lines.
    """
    figure, axes = _figure()
    for marker, (servers, points) in zip("os^Dv*", lines.items(), strict=False):
        name = f"{servers} server{'s' if servers > 1 else ''}{', simulated' if measured else ''}"
        axes.plot(*zip(*points, strict=True), marker=marker, markersize=5, label=name, linewidth=1.6)
    if measured:
        axes.plot(*zip(*measured, strict=True), "kx", markersize=10, markeredgewidth=2, label="measured")
    if target is not None:
        axes.axhline(target, color=_RED, linestyle="--", linewidth=1, label=f"{target:g} s")
    if arrivals is not None:
        axes.axvline(arrivals, color=_GREY, linestyle=":", linewidth=1)
    axes.set_xlabel("questions per second")
    axes.set_ylabel("seconds, 95th percentile")
    axes.set_xlim(left=0)
    axes.margins(y=0.1)
    axes.set_ylim(0, None if target is None else 2 * target)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize=9)
    return _png(figure)


def skipping_plot(calibration: Calibration) -> bytes:
    """Accuracy against the share of questions in which the server is skipped, with the certified point."""
    figure, axes = _figure()
    curve = sorted(calibration.curve, key=lambda point: point.skipped)
    shares = [0.0, *(100 * point.skipped for point in curve)]
    axes.plot(shares, [100 * calibration.asked_accuracy, *(100 * point.accuracy for point in curve)], color=_BLUE)
    certificate = calibration.certificate
    accuracy = calibration.curve_at(certificate.threshold)
    axes.plot(100 * certificate.skipped, 100 * accuracy, "D", color=_GREEN, markersize=9)
    axes.annotate(
        "certified", (100 * certificate.skipped, 100 * accuracy), (-8, 10), textcoords="offset points", ha="right",
        fontsize=10,
    )  # fmt: skip
    axes.axhline(100 * (calibration.asked_accuracy - certificate.risk), color=_RED, linestyle="--", linewidth=1)
    axes.set_xlabel("server skipped, % of questions")
    axes.set_ylabel("accuracy, %")
    axes.margins(x=0.05, y=0.15)
    axes.set_title("◆ certified   ┄ accuracy with the whole risk lost", fontsize=11, color=_GREY, loc="left")
    return _png(figure)


# The name of a part, its title, colour and hatch.
_PARTS = (
    ("queued", "waiting", _GREY, "//"),
    ("prefill", "prefill", _GREEN, ""),
    ("decode", "decoding", _BLUE, ".."),
    ("unknown", "unknown", _LIGHT, ""),
)
_ROW = 0.32


def time_plot(found: RunTime) -> bytes:
    """Seconds per question in the parts of the calls, one row for each stage and member."""
    stages = by_stage(found.members)
    rows = len(found.members) + len(stages)
    figure, axes = _figure(height=1.3 + _ROW * rows)
    axes.grid(visible=False, axis="y")
    labels, position = dict[int, str](), 0
    for stage, members in stages.items():
        axes.annotate(
            STAGE_TITLES[stage], (0, position), (4, 0), textcoords="offset points", va="center", fontsize=10,
            fontweight="bold",
        )  # fmt: skip
        for one in members:
            position += 1
            labels[position] = one.member
            left = 0.0
            for name, _, colour, hatch in _PARTS:
                width = getattr(one.totals, name) / found.questions
                axes.barh(position, width, left=left, color=colour, hatch=hatch, edgecolor="white", height=0.7)
                left += width
            total = f"{left:.3g}"
            axes.annotate(total, (left, position), (4, 0), textcoords="offset points", va="center", fontsize=9)
        position += 1
    axes.set_yticks(list(labels), list(labels.values()))
    axes.set_ylim(position - 0.4, -0.6)
    longest = max(one.totals.all for one in found.members)
    axes.set_xlim(0, 1.18 * longest / found.questions or 1.0)
    axes.set_xlabel("seconds per question")
    patch = require("matplotlib.patches", "eval").Patch
    shown = [part for part in _PARTS if any(getattr(one.totals, part[0]) > 0.005 * longest for one in found.members)]
    figure.legend(
        handles=[
            patch(facecolor=colour, hatch=hatch, edgecolor="white", label=title) for _, title, colour, hatch in shown
        ],
        loc="outside upper center", ncols=len(_PARTS), frameon=False, fontsize=10, columnspacing=1.2,
    )  # fmt: skip
    return _png(figure)


def _figure(height: float = _SIZE[1]) -> tuple[Any, Any]:
    """Not created with pyplot, which keeps every figure in a global list."""
    figure = require("matplotlib.figure", "eval").Figure(figsize=(_SIZE[0], height), dpi=200, layout="constrained")
    axes = figure.add_subplot()
    axes.grid(axis="both", color=_LIGHT, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=11)
    axes.xaxis.label.set_fontsize(11)
    axes.yaxis.label.set_fontsize(11)
    return figure, axes


def _png(figure: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
