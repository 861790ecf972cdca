"""The report of ablation load: tables and plots by the number of askers, and where collaboration breaks even."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from ..report.document import Document, Heading, Part, Plot, Table, Text
from ..report.plots import line_plot
from .load_values import LoadSettings, SetupLoad
from .setups import ALONE
from .stub_team import CLIENT_SECONDS, SERVER_SECONDS

Found = Mapping[str, SetupLoad]
_Value = Callable[[SetupLoad, int], float | None]
"""Of a setup, with a number of askers."""
_MARGIN = 0.05
"""Smaller differences can be noise."""


def document(title: str, questions: int, settings: LoadSettings, found: Found) -> Document:
    return Document(f"Load on the server: {title}", tuple(_parts(questions, settings, found)))


def _parts(questions: int, settings: LoadSettings, found: Found) -> Iterator[Part]:
    yield Text(_how(questions, settings))
    yield _overview(found)
    yield Heading("Response times")
    yield Text("Seconds from question to answer: median / 95th / 99th percentile.")
    yield _table(found, _percentiles)
    yield _plot(found, "load-p95.png", _p95, "seconds, 95th percentile")
    yield Heading("Throughput")
    yield Text("Questions answered per second.")
    yield _table(found, lambda setup, askers: f"{_throughput(setup, askers):.2f}")
    yield _plot(found, "load-throughput.png", _throughput, "questions per second")
    if any(setup.accuracy is not None for setup in found.values()):
        yield Text("Correct answers per second.")
        yield _table(found, lambda setup, askers: _or_dash(setup.correct(askers)))
        yield _plot(found, "load-correct.png", SetupLoad.correct, "correct answers per second")
    yield Heading("The server")
    yield Text("Share of the time for which the server's places are in use.")
    yield _table(found, lambda setup, askers: f"{setup.by_askers[askers].busy:.0%}")
    yield Heading("Where collaboration breaks even")
    yield Text(
        f"The number of askers from which a setup is better than the server alone by at least {_MARGIN:.0%}, at all "
        "numbers measured."
    )
    rows = ((setup, *map(_shown, gains.values())) for setup, gains in break_evens(found).items())
    yield Table(("setup", *_MEASURES), tuple(rows))


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


def _overview(found: Found) -> Table:
    rows = []
    fewest = min(_numbers(found))
    for name, setup in found.items():
        busiest = max(setup.by_askers.values(), key=lambda one: one.throughput)
        accuracy = "–" if setup.accuracy is None else f"{setup.accuracy:.1%}"
        failed = sum(one.failed for one in setup.by_askers.values())
        calls, most = f"{busiest.calls:.2f}", f"{busiest.throughput:.2f}"
        rows.append((name, accuracy, calls, _percentiles(setup, fewest), most, str(failed)))
    head = (
        "setup", "accuracy", "server calls", f"seconds, {fewest} asker{'s' if fewest > 1 else ''}",
        "most questions/s", "no answer",
    )  # fmt: skip
    return Table(head, tuple(rows))


def _numbers(found: Found) -> Sequence[int]:
    """The numbers of askers, in ascending order."""
    return sorted(next(iter(found.values())).by_askers)


def _table(found: Found, cell: Callable[[SetupLoad, int], str]) -> Table:
    rows = ((str(askers), *(cell(setup, askers) for setup in found.values())) for askers in _numbers(found))
    return Table(("askers", *found), tuple(rows))


def _plot(found: Found, name: str, value: _Value, label: str) -> Plot:
    numbers = _numbers(found)
    series = {name: [_or_gap(value(setup, askers)) for askers in numbers] for name, setup in found.items()}
    return Plot(
        name,
        line_plot(list(map(str, numbers)), series, "askers", label),
        f"{label[0].upper()}{label[1:]} by number of askers",
    )


def break_evens(found: Found) -> Mapping[str, Mapping[str, int | str | None]]:
    """For each setup but the server alone and each measure: the number of askers from which it is better, "never", or
    None if it is not known."""
    return {
        name: {measure: _break_even(setup, found[ALONE], value) for measure, value in _MEASURES.items()}
        for name, setup in found.items()
        if name != ALONE
    }


def _break_even(setup: SetupLoad, alone: SetupLoad, value: _Value) -> int | str | None:
    better: list[int] = []
    for askers in sorted(alone.by_askers, reverse=True):
        own, other = value(setup, askers), value(alone, askers)
        if own is None or other is None:
            return None
        if own < (1 + _MARGIN) * other or own == other:
            break
        better.append(askers)
    return better[-1] if better else "never"


def _throughput(setup: SetupLoad, askers: int) -> float:
    return setup.by_askers[askers].throughput


def _speed(percentile: str) -> _Value:
    """The reciprocal of the time, since more is better."""

    def speed(setup: SetupLoad, askers: int) -> float | None:
        times = setup.by_askers[askers].times
        return None if times is None else 1 / float(getattr(times, percentile))

    return speed


_MEASURES: Mapping[str, _Value] = {
    "faster (median)": _speed("p50"),
    "faster (95th percentile)": _speed("p95"),
    "more questions/s": _throughput,
    "more correct answers/s": SetupLoad.correct,
}


def _shown(found: int | str | None) -> str:
    return "–" if found is None else f"from {found}" if isinstance(found, int) else found


def _p95(setup: SetupLoad, askers: int) -> float | None:
    times = setup.by_askers[askers].times
    return None if times is None else times.p95


def _percentiles(setup: SetupLoad, askers: int) -> str:
    times = setup.by_askers[askers].times
    return "–" if times is None else f"{times.p50:.2f} / {times.p95:.2f} / {times.p99:.2f}"


def _or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _or_gap(value: float | None) -> float:
    """NaN leaves a gap in a plot."""
    return math.nan if value is None else value
