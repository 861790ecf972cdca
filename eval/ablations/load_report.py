"""The report of ablation load: tables and plots by the number of askers, and where collaboration breaks even."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

from ..report.document import Document, Heading, Part, Plot, Table, Text
from ..report.plots import line_plot
from .load_values import LoadMeasurement, LoadSettings
from .setups import ALONE
from .stub_team import CLIENT_SECONDS, SERVER_SECONDS

ByAskers = Mapping[int, LoadMeasurement]
_Value = Callable[[LoadMeasurement], float | None]
_MARGIN = 0.05
"""Smaller differences can be noise."""


def document(title: str, questions: int, settings: LoadSettings, found: Mapping[str, ByAskers]) -> Document:
    return Document(f"Load on the server: {title}", tuple(_parts(questions, settings, found)))


def _parts(questions: int, settings: LoadSettings, found: Mapping[str, ByAskers]) -> Iterator[Part]:
    yield Text(_how(questions, settings))
    yield _overview(found)
    yield Heading("Response times")
    yield Text("Seconds from question to answer: median / 95th / 99th percentile.")
    yield _table(found, _percentiles)
    yield _plot(found, "load-p95.png", _p95, "seconds, 95th percentile")
    yield Heading("Throughput")
    yield Text("Questions answered per second.")
    yield _table(found, lambda one: f"{one.throughput:.2f}")
    yield _plot(found, "load-throughput.png", lambda one: one.throughput, "questions per second")
    if any(one.correct is not None for by_askers in found.values() for one in by_askers.values()):
        yield Text("Correct answers per second.")
        yield _table(found, lambda one: _or_dash(one.correct))
        yield _plot(found, "load-correct.png", lambda one: one.correct, "correct answers per second")
    yield Heading("The server")
    yield Text("Share of the time for which the server's places are in use.")
    yield _table(found, lambda one: f"{one.busy:.0%}")
    yield Heading("Where collaboration breaks even")
    yield Text(
        f"The number of askers from which a setup is better than the server alone by at least {_MARGIN:.0%}, at all "
        "numbers measured."
    )
    rows = ((setup, *map(_shown, gains.values())) for setup, gains in break_evens(found).items())
    yield Table(("setup", *_GAINS), tuple(rows))


def _how(questions: int, settings: LoadSettings) -> str:
    slowed = ", ".join(f"{name} by {factor:g}" for name, factor in settings.slowdown.items())
    clients = (
        f"All members are stub endpoints on loopback: clients take {CLIENT_SECONDS:g} s and answer any number of "
        f"requests at a time, the server takes {SERVER_SECONDS:g} s. The clients disagree in about a third of the "
        "questions."
        if settings.stub
        else "Each asker has clients of its own: their replies were computed once, alone on this machine, and are "
        "repeated after the same time." + (" So are those of the server." if settings.replay_server else "")
    )
    return (
        f"{questions} questions, asked again and again. Each asker asks the next question as soon as the last one is "
        f"answered, for {settings.seconds:g} s, the first fifth of which is not counted, nor is what comes before as "
        f"many answers as there are askers. The server answers "
        f"{settings.places} request{'s' if settings.places > 1 else ''} at a time, in the order of arrival. {clients}"
        + (f" Slowed clients: {slowed}." if slowed else "")
    )


def _overview(found: Mapping[str, ByAskers]) -> Table:
    rows = []
    for setup, by_askers in found.items():
        alone, busiest = by_askers[min(by_askers)], max(by_askers.values(), key=lambda one: one.throughput)
        accuracy = "–" if busiest.accuracy is None else f"{busiest.accuracy:.1%}"
        failed = sum(one.failed for one in by_askers.values())
        calls = f"{busiest.calls:.2f}"
        rows.append((setup, accuracy, calls, _percentiles(alone), f"{busiest.throughput:.2f}", str(failed)))
    fewest = min(next(iter(found.values())))
    head = (
        "setup", "accuracy", "server calls", f"seconds, {fewest} asker{'s' if fewest > 1 else ''}",
        "most questions/s", "no answer",
    )  # fmt: skip
    return Table(head, tuple(rows))


def _table(found: Mapping[str, ByAskers], cell: Callable[[LoadMeasurement], str]) -> Table:
    rows = (
        (str(askers), *(cell(by_askers[askers]) for by_askers in found.values()))
        for askers in next(iter(found.values()))
    )
    return Table(("askers", *found), tuple(rows))


def _plot(found: Mapping[str, ByAskers], name: str, value: _Value, label: str) -> Plot:
    askers = [str(number) for number in next(iter(found.values()))]
    series = {setup: [_or_gap(value(one)) for one in by_askers.values()] for setup, by_askers in found.items()}
    return Plot(name, line_plot(askers, series, "askers", label), f"{label[0].upper()}{label[1:]} by number of askers")


def break_evens(found: Mapping[str, ByAskers]) -> Mapping[str, Mapping[str, int | str | None]]:
    """For each setup but the server alone and each measure: the number of askers from which it is better, "never", or
    None if it is not known."""
    return {
        setup: {name: _break_even(by_askers, found[ALONE], gain) for name, gain in _GAINS.items()}
        for setup, by_askers in found.items()
        if setup != ALONE
    }


_Gain = Callable[[LoadMeasurement, LoadMeasurement], float | None]
"""How many times better the first measurement is than the second."""


def _faster(percentile: str) -> _Gain:
    def gain(one: LoadMeasurement, other: LoadMeasurement) -> float | None:
        if one.times is None or other.times is None:
            return None
        own: float = getattr(one.times, percentile)
        return float(getattr(other.times, percentile)) / own

    return gain


def _more(rate: str) -> _Gain:
    def gain(one: LoadMeasurement, other: LoadMeasurement) -> float | None:
        own, theirs = getattr(one, rate), getattr(other, rate)
        if own is None or theirs is None:
            return None
        return math.inf if not theirs else float(own / theirs)

    return gain


_GAINS: Mapping[str, _Gain] = {
    "faster (median)": _faster("p50"),
    "faster (95th percentile)": _faster("p95"),
    "more questions/s": _more("throughput"),
    "more correct answers/s": _more("correct"),
}


def _break_even(setup: ByAskers, alone: ByAskers, gain: _Gain) -> int | str | None:
    better: list[int] = []
    for askers in sorted(alone, reverse=True):
        found = gain(setup[askers], alone[askers])
        if found is None:
            return None
        if found < 1 + _MARGIN:
            break
        better.append(askers)
    return better[-1] if better else "never"


def _shown(found: int | str | None) -> str:
    return "–" if found is None else f"from {found}" if isinstance(found, int) else found


def _p95(one: LoadMeasurement) -> float | None:
    return None if one.times is None else one.times.p95


def _percentiles(one: LoadMeasurement) -> str:
    times = one.times
    return "–" if times is None else f"{times.p50:.2f} / {times.p95:.2f} / {times.p99:.2f}"


def _or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _or_gap(value: float | None) -> float:
    """NaN leaves a gap in a plot."""
    return math.nan if value is None else value
