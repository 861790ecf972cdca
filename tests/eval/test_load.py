"""Ablation load: a closed loop of askers at a bounded server, replayed clients, resuming, and its options."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from colm_vl.errors import ConfigError, InputError
from colm_vl.team import Team
from eval.ablations.load import POINTS, load_study, stub_study
from eval.ablations.load_report import break_evens
from eval.ablations.load_values import LoadMeasurement, LoadSettings, SetupLoad
from eval.ablations.setups import ALONE
from eval.benchmarks.registry import find
from eval.cli import app
from eval.durations import Percentiles
from eval.evaluator import Plan, plan
from tests.eval import published

SETTINGS = LoadSettings(askers=(1, 8), seconds=0.6, gates=("disagreement",))


def team(client_delay: float = 0.02) -> Team:
    """The drafts agree on (A), guidance lets each client answer (B)."""
    replies = [
        {"when": "Guidance from", "text": "Answer: (B)", "delay": client_delay},
        {"text": "Answer: (A)", "delay": client_delay},
    ]
    said = "Evidence: it is there\nDisagreement: none\nCheck: all\nAnswer: (A)"
    clients = [{"name": f"c{n}", "backend": "scripted", "model": f"m{n}", "replies": replies} for n in range(2)]
    server = {"backend": "scripted", "model": "big", "replies": [{"text": said, "delay": 0.05}]}
    return Team.from_dict({"clients": clients, "server": server})


def questions(folder: Path) -> Plan:
    return plan(find("ai2d"), published.ai2d(folder), limit=2)


def measure(folder: Path, settings: LoadSettings = SETTINGS, members: Team | None = None) -> dict[str, Any]:
    """The measurements by setup and number of askers, and the accuracy of each setup."""
    setups = load_study(members or team(), questions(folder), folder / "out", settings).data["setups"]
    return {name: {**setup["askers"], "accuracy": setup["accuracy"]} for name, setup in setups.items()}


def test_a_bounded_server_limits_those_that_always_ask_it(tmp_path: Path) -> None:
    found = measure(tmp_path)
    alone, gated = found["server alone"], found["colm, disagreement"]
    for setup in ("server alone", "verdict", "colm"):
        assert found[setup]["8"]["throughput"] < 1.1 / 0.05
        assert 0.3 < found[setup]["8"]["busy"] <= 1
        assert found[setup]["8"]["calls"] == 1
    assert alone["1"]["times"]["p50"] >= 0.05
    assert alone["8"]["times"]["p50"] > 0.2  # others are answered first
    # The gate always skips the server, so askers do not wait for each other.
    assert (gated["8"]["calls"], gated["8"]["busy"]) == (0, 0)
    assert gated["8"]["throughput"] > 1.5 * gated["1"]["throughput"]
    assert found["colm"]["8"]["correct"] == pytest.approx(found["colm"]["8"]["throughput"])
    assert (gated["8"]["correct"], gated["accuracy"]) == (0, 0)


def measured(throughput: float, p95: float) -> LoadMeasurement:
    times = Percentiles(100, p95, p95, p95, p95)
    return LoadMeasurement(times, throughput, busy=1.0, calls=1.0, failed=0, grades={})


def test_break_even() -> None:
    alone = {1: measured(5.0, 0.2), 4: measured(10.0, 0.4), 16: measured(10.0, 1.6)}
    setup = {1: measured(6.0, 0.8), 4: measured(9.0, 0.9), 16: measured(30.0, 1.58)}
    (found,) = break_evens({ALONE: SetupLoad(alone), "gated": SetupLoad(setup)}).values()
    assert found["more questions/s"] == 16  # with one asker, too, but not with four
    assert found["faster (95th percentile)"] == "never"  # 1 % is too little
    assert found["more correct answers/s"] is None


def test_more_places_answer_more(tmp_path: Path) -> None:
    found = measure(tmp_path, replace(SETTINGS, askers=(8,), places=4, gates=()))
    assert found["server alone"]["8"]["throughput"] > 1.2 / 0.05


def test_a_replayed_server_has_the_same_capacity(tmp_path: Path) -> None:
    found = measure(tmp_path, replace(SETTINGS, askers=(8,), gates=(), replay_server=True))
    assert all(one["8"]["throughput"] < 1.1 / 0.05 for one in found.values())
    assert found["colm"]["accuracy"] == 1


def test_slowed_clients_take_longer_and_the_server_does_not(tmp_path: Path) -> None:
    settings = replace(SETTINGS, askers=(1,), slowdown={"c1": 5.0})
    found = measure(tmp_path, settings, team(0.03))
    assert found["verdict"]["1"]["times"]["p50"] >= 5 * 0.03 + 0.05
    assert found["server alone"]["1"]["times"]["p50"] < found["verdict"]["1"]["times"]["p50"]


def test_a_study_resumes(tmp_path: Path) -> None:
    first = measure(tmp_path)
    assert measure(tmp_path) == first
    more = measure(tmp_path, replace(SETTINGS, askers=(1, 2, 8), gates=()))
    assert more["colm"]["8"] == first["colm"]["8"]
    assert len((tmp_path / "out" / POINTS).read_text().splitlines()) == 8 + 3


def test_stub_endpoints_take_the_place_of_a_team(tmp_path: Path) -> None:
    settings = LoadSettings(askers=(1,), seconds=1.5, gates=(), slowdown={"client 2": 2.0})
    setups = stub_study(tmp_path, settings, print).data["setups"]
    times = {name: setup["askers"]["1"]["times"] for name, setup in setups.items()}
    assert times["server alone"]["p50"] >= 0.2
    assert times["verdict"]["p50"] >= 0.8
    assert setups["server alone"]["accuracy"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--askers", "0,2"], "--askers '0,2': expected whole numbers from 1"),
        (["--slow", "shapes"], "--slow 'shapes': expected a client and a factor above 0"),
        (["--slow", "nobody=2"], "no client is called 'nobody'"),
        (["--gates", "sometimes"], "gate: expected always"),
    ],
)
def test_bad_options_are_refused(tmp_path: Path, options: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["ablate", "load", "--limit", "1", "--out", str(tmp_path), *options])
    assert isinstance(result.exception, ConfigError | InputError)
    assert message in str(result.exception)
