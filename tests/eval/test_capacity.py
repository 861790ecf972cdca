"""`colm-vl eval capacity`: the simulation against queueing theory, and plans from a run."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from scipy.optimize import brentq
from typer.testing import CliRunner

from colm_vl import Query, evaluate
from colm_vl.errors import InputError
from colm_vl.team import Team
from eval.bench.capacity import validate
from eval.capacity.measured import ClientCall, Step
from eval.capacity.simulation import Load, simulate
from eval.cli import app

# --- queueing theory ---


def p95(tail: Callable[[float], float], high: float) -> float:
    """Where the probability of a longer time is 5 %."""
    return float(brentq(lambda time: tail(time) - 0.05, 1e-9, high))


def tail_of_mmc(time: float, arrivals: float, places: int) -> float:
    """M/M/c with a service time of 1: the probability of a longer response time, from Erlang's C (Gross et al.,
    Fundamentals of Queueing Theory, Section 2.3)."""
    below = sum(arrivals**n / math.factorial(n) for n in range(places))
    last = arrivals**places / (math.factorial(places) * (1 - arrivals / places))
    waits, spare = last / (below + last), places - 1 - arrivals
    return math.exp(-time) * (1 + waits * (1 - math.exp(-time * spare)) / spare)


def tail_of_md1(time: float, arrivals: float) -> float:
    """M/D/1 with a service time of 1 (Erlang 1909)."""
    waited = time - 1
    terms = (
        (arrivals * (n - waited)) ** n / math.factorial(n) * math.exp(-arrivals * (n - waited))
        for n in range(math.floor(waited) + 1)
    )
    return 1 - (1 - arrivals) * math.fsum(terms)


def exponential() -> Sequence[Sequence[Step]]:
    drawn = random.Random(1)
    seconds = [drawn.expovariate(1.0) for _ in range(20_000)]
    mean = sum(seconds) / len(seconds)
    return [(Step((), (one / mean,)),) for one in seconds]


@pytest.mark.parametrize(("arrivals", "places"), [(0.5, 1), (2.1, 3), (8.0, 10)])
def test_random_service_times_agree_with_erlang_c(arrivals: float, places: int) -> None:
    found = simulate(exponential(), ["c"], Load(arrivals, 1), places, questions=40_000)
    expected = p95(lambda time: tail_of_mmc(time, arrivals, places), 100)
    assert found.p95.value == pytest.approx(expected, rel=0.05)
    assert found.server_busy == pytest.approx(arrivals / places, rel=0.02)
    assert found.p95.interval.low < found.p95.value < found.p95.interval.high


@pytest.mark.parametrize("step", [Step((), (1.0,)), Step((ClientCall("c", 1.0),), ())], ids=["server", "client"])
def test_fixed_service_times_agree_with_m_d_1(step: Step) -> None:
    """Also for a client device, which takes one call at a time."""
    found = simulate([(step,)], ["c"], Load(0.8, 1), 1, questions=60_000)
    assert found.p95.value == pytest.approx(p95(lambda time: tail_of_md1(time, 0.8), 20), rel=0.05)
    busy = found.server_busy if step.server else found.client_busy
    assert busy == pytest.approx(0.8, rel=0.02)


def test_calls_of_a_step_run_at_the_same_time_and_steps_in_a_row() -> None:
    steps = (
        Step((ClientCall("a", 1.0), ClientCall("b", 3.0)), ()),
        Step((), (2.0,)),
        Step((ClientCall("a", 1.0), ClientCall("b", 1.0)), ()),
    )
    found = simulate([steps], ["a", "b"], Load(0.001, 1_000_000), 1, questions=500)
    assert found.p50.value == pytest.approx(6.0)


def test_the_simulation_agrees_with_endpoints() -> None:
    """The limits are wide, because other load on the machine delays what is measured; `python -m eval.bench capacity`
    measures it."""
    (figure,) = validate(40, 4, loads=(0.5,)).figures
    assert abs(float(figure.value.rstrip("%"))) < 60


# --- plans ---


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ask(tmp_path_factory.mktemp("run"))


def ask(out: Path, **policy: Any) -> Path:
    """The drafts agree on easy questions, and only guidance helps with hard ones."""
    guided = {"when": "Guidance from", "text": "Answer: yes", "delay": 0.01}
    hard = {"when": "hard", "text": "Answer: no", "delay": 0.02}
    easy = {"text": "Answer: yes", "delay": 0.02}
    clients = [
        {"name": "one", "backend": "scripted", "model": "m", "replies": [guided, hard, easy]},
        {"name": "two", "backend": "scripted", "model": "m", "replies": [guided, easy]},
    ]
    said = "Evidence: it is there\nDisagreement: none\nCheck: all"
    server = {"backend": "scripted", "model": "big", "replies": [{"text": said, "delay": 0.05}]}
    kinds = ["easy", "easy", "easy", "hard"]
    rows = [Query(f"Is this {kinds[n % 4]} question {n}?", id=f"q{n}", metadata={"answer": "yes"}) for n in range(20)]
    team = Team.from_dict({"clients": clients, "server": server, "policy": {"asker": "one"}})
    evaluate(rows, team=team, strategies=["vote", "colm"], out=out, concurrency=1, **policy)
    return out


def capacity(run: Path, *options: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["capacity", str(run), "--json", *options], catch_exceptions=False)
    data: dict[str, Any] = json.loads(result.stdout)
    return data


def test_a_plan_tells_what_is_measured_from_what_is_simulated(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    data = capacity(run, "--arrivals", "50/s", "--clients", "1000", "--target-p95", "0.5", "--out", str(out))
    calls = {(one["stage"], one["member"]): one for one in data["measured"]["calls"]}
    assert 0.05 <= calls["guide", "server"]["p50"] < 0.2
    assert calls["guide", "server"]["count"] == 20
    gates = {one["gate"]: one for one in data["measured"]["gates"]}
    assert (gates["always"]["asked"], gates["always"]["accuracy"]) == (1.0, 1.0)
    assert (gates["disagreement"]["asked"], gates["disagreement"]["accuracy"]) == (0.25, 1.0)
    needed = {one["gate"]: one["servers"] for one in data["simulated"]["gates"]}
    assert needed["always"] > 2 * needed["disagreement"]
    assert data["simulated"]["best"] == {"gate": "disagreement", "servers": needed["disagreement"]}
    tried = next(one["tried"] for one in data["simulated"]["gates"] if one["gate"] == "always")
    by_servers = {one["servers"]: one["p95"] for one in tried}
    assert by_servers[needed["always"]]["high"] <= 0.5
    assert all(p95["high"] > 0.5 for servers, p95 in by_servers.items() if servers < needed["always"])
    assert {file.name for file in out.iterdir()} == {
        "capacity.md", "capacity.html", "capacity.json", "capacity.png",
    }  # fmt: skip


def test_a_million_clients(run: Path) -> None:
    data = capacity(run, "--arrivals", "12_000_000/day", "--clients", "1_000_000", "--target-p95", "1")
    (plan,) = (one for one in data["simulated"]["gates"] if one["gate"] == "disagreement")
    (kept,) = (one for one in plan["tried"] if one["servers"] == plan["servers"])
    assert data["promise"]["arrivals_per_second"] == pytest.approx(138.9, rel=0.01)
    assert 0 < kept["client_busy"] < 0.001


def test_a_run_that_skipped_the_server_is_simulated_with_its_own_gate(tmp_path: Path) -> None:
    skipped = capacity(ask(tmp_path / "gated", gate="disagreement"), "--arrivals", "5/s", "--target-p95", "8")
    assert skipped["measured"]["gates"] == [{"gate": "as in the run", "asked": 0.25, "accuracy": 1.0}]
    shadow = ask(tmp_path / "shadow", gate="disagreement", shadow=True)
    gates = capacity(shadow, "--arrivals", "5/s", "--target-p95", "8")["measured"]["gates"]
    assert {one["gate"]: one["asked"] for one in gates} == {"always": 1.0, "disagreement": 0.25}


def test_more_places_need_fewer_servers(run: Path) -> None:
    few, many = (
        capacity(run, "--arrivals", "100/s", "--target-p95", "1", "--places", places)["simulated"]["best"]["servers"]
        for places in ("1", "4")
    )
    assert many < few


def test_a_promise_that_no_number_of_servers_keeps_is_explained(run: Path) -> None:
    result = CliRunner().invoke(app, ["capacity", str(run), "--arrivals", "5/s", "--target-p95", "0.01"])
    assert "no number of servers keeps this promise" in result.stdout
    assert "even without waiting" in result.stdout
    result = CliRunner().invoke(
        app, ["capacity", str(run), "--arrivals", "500/s", "--clients", "2", "--target-p95", "1"]
    )
    assert "would be busy for" in result.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--arrivals", "0/s"], "--arrivals '0/s': expected a rate above 0"),
        (["--arrivals", "5"], "--arrivals '5': expected a rate above 0"),
        (["--arrivals", "5/fortnight"], "--arrivals '5/fortnight': expected a rate above 0"),
        (["--arrivals", "5/s", "--clients", "1"], "--clients is 1, and the team has 2"),
        (["--arrivals", "5/s", "--strategy", "vote"], "no call of a server in 20 questions of 'vote'"),
        (["--arrivals", "5/s", "--strategy", "moa"], "no answers of 'moa'"),
        (["--arrivals", "5/s", "--slow", "three=2"], "no client is called 'three'"),
    ],
)
def test_what_cannot_be_simulated_is_refused(run: Path, options: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["capacity", str(run), "--target-p95", "8", *options])
    assert isinstance(result.exception, InputError)
    assert message in str(result.exception)
