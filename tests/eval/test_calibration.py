"""A gate that is calibrated on a run, from the run to its use."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
from scipy import stats

from colm_vl import ConfigError, Query, Team
from colm_vl.backends.base import Request
from colm_vl.drift import DriftTest, is_audited
from colm_vl.errors import InputError
from colm_vl.gates.certificate import SIGNALS, Certificate
from eval import cli
from eval.benchmarks.registry import find
from eval.calibration.certify import Promise, calibrate, read_calibration, write_calibration
from eval.calibration.thresholds import items_needed, passing, sequence, upper_bound
from eval.evaluator import plan, run
from eval.report.write import write_report
from eval.run_folder import Evaluation, read_evaluation
from tests.teams import Scripted, scripted

RISK, DELTA = 0.02, 0.05


def harm_above(threshold: float) -> float:
    """The true risk of a threshold in the world of `drawn`."""
    return 0.12 * (1 - threshold) ** 3 / 3


def drawn(generator: numpy.random.Generator, n: int) -> tuple[numpy.ndarray, numpy.ndarray]:
    scores = generator.random(n)
    return scores, generator.random(n) < 0.12 * (1 - scores) ** 2


def test_of_2000_calibrations_fewer_break_the_guarantee_than_allowed() -> None:
    generator, broken, avoided = numpy.random.default_rng(7), 0, []
    for _ in range(2000):
        thresholds = sequence(drawn(generator, 300)[0])
        passed = passing(thresholds, *drawn(generator, 500), RISK, DELTA)
        threshold = passed[-1].threshold if passed else 1.0
        broken += harm_above(threshold) > RISK
        avoided.append(1 - threshold)
    assert broken / 2000 < DELTA
    assert broken > 0  # the guarantee does not hold merely because nothing is skipped
    assert 0.3 < numpy.mean(avoided) < harm_limit()


def harm_limit() -> float:
    """The share of questions that could be skipped if the risks were known."""
    return float((RISK * 3 / 0.12) ** (1 / 3))


def test_thresholds_pass_as_by_mapie() -> None:
    methods = pytest.importorskip("mapie.risk_control.methods", reason="MAPIE is not installed: pip install mapie")
    control = pytest.importorskip("mapie.risk_control.fwer_control")
    generator = numpy.random.default_rng(3)
    for _ in range(50):
        scores, harmful = drawn(generator, 512)  # a power of two, so that MAPIE's risks are exact
        thresholds = sequence(generator.random(100))
        risks = numpy.array([(harmful & (scores >= one)).mean() for one in thresholds])
        ps = methods.compute_hoeffding_bentkus_p_value(risks, 512, RISK, binary=True)[:, 0]
        expected = control.FWERFixedSequenceTesting(n_starts=1).run(ps, DELTA)
        found = passing(thresholds, scores, harmful, RISK, DELTA)
        assert [one.threshold for one in found] == [thresholds[int(index)] for index in expected]
        assert [one.p for one in found] == pytest.approx(ps[: len(found)])


@pytest.mark.parametrize(("risk", "delta", "needed"), [(0.01, 0.05, 299), (0.02, 0.05, 149), (0.05, 0.1, 45)])
def test_the_items_that_are_needed(risk: float, delta: float, needed: int) -> None:
    assert items_needed(risk, delta) == needed
    assert not passing([0.5], [0.9] * (needed - 1), [False] * (needed - 1), risk, delta)
    assert passing([0.5], [0.9] * needed, [False] * needed, risk, delta)


def test_the_upper_bound_is_exact() -> None:
    bound = upper_bound(3, 100, DELTA)
    assert stats.binom.cdf(3, 100, bound) == pytest.approx(DELTA)
    assert upper_bound(0, 0, DELTA) == upper_bound(5, 5, DELTA) == 1


# --- a run, its certificate and its use ---

QUESTIONS = 900


def hard(question: int) -> bool:
    return random.Random(f"hard {question}").random() < 0.3


def client(request: Request) -> str:
    """Knows easy questions; of hard ones it guesses, and takes what the server says."""
    text = "\n".join(message.text for message in request.messages)
    number = int(text.split("Question number ")[1].split("?")[0])
    guided = any("Evidence:" in message.text for message in request.messages)
    if hard(number) and not guided:
        return f"Caption: a sum\nAnswer: {number + 1 + random.Random(number).randrange(3)}\nConfidence: 40"
    return f"Caption: a sum\nAnswer: {number}\nConfidence: 95"


def team(**policy: object) -> Scripted:
    server = "Evidence: the sum is written there\nDisagreement: none\nCheck: the sum"
    return scripted({"one": client, "two": client}, lambda _: server, reply_format="lines", **policy)


@pytest.fixture(scope="module")
def shadow(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    folder = tmp_path_factory.mktemp("calibration")
    rows = [{"question": f"Question number {number}?", "answer": f"#### {number}"} for number in range(QUESTIONS)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    with team() as colm:
        list(run(colm, plan(find("gsm8k"), folder / "rows.jsonl"), ["vote", "colm"], folder / "run"))
    return read_evaluation(folder / "run")


def test_a_run_gives_a_certificate_and_a_gate_that_uses_it(
    shadow: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gate = tmp_path / "gate.json"
    monkeypatch.setattr("sys.argv", ["colm-vl eval", "calibrate", str(shadow.folder), "--out", str(gate)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert "at most 2.0 % of accuracy lost" in capsys.readouterr().out
    found = read_calibration(shadow.folder)
    assert found is not None
    assert 0.6 < found.certificate.skipped < 0.75
    assert found.certificate.harms == 0
    assert found.curve_at(found.certificate.threshold) == found.asked_accuracy == 1

    fresh = [Query(f"Question number {number}?", id=str(number)) for number in range(5000, 5200)]
    with team(gate={"calibrated": str(gate)}, audit=0.2) as colm:
        traces = list(colm.batch(fresh, strategy="colm"))
    asked = [trace for trace in traces if trace.gates[0].asked and not trace.gates[0].shadow]
    audited = [trace for trace in traces if is_audited(trace)]
    assert {trace.id for trace in asked} == {query.id for query in fresh if hard(int(query.id))}
    assert 10 < len(audited) < 50
    assert all(trace.answer == trace.id for trace in traces)
    assert {trace.gates[0].certificate for trace in traces} == {found.certificate.digest}
    assert "score 0.9" in traces[0].gates[0].reason


def test_changed_members_prompts_or_policies_make_it_void(shadow: Evaluation, tmp_path: Path) -> None:
    gate = tmp_path / "gate.json"
    gate.write_text(calibrate(shadow, Promise()).certificate.as_json())
    question = Query("Question number 5000?")
    for policy, reason in (
        ({"prompts": "pocket"}, "the prompts of one, two, server changed"),
        ({"share": "captions", "rounds": 2}, "the policy rounds, share changed"),
        ({}, "it was calibrated with the members one, two, server"),
    ):
        clients = {"one": client, "two": client} if policy else {"one": client}
        server = "Evidence: it is there\nDisagreement: none\nCheck: it"
        with scripted(clients, [server], reply_format="lines", gate={"calibrated": str(gate)}, **policy) as colm:
            trace = colm.ask(question)
        assert trace.gates[0].asked
        assert reason in trace.gates[0].reason
        assert any(reason in note for note in trace.notes)


def test_policies_on_which_no_answer_depends_may_change(shadow: Evaluation, tmp_path: Path) -> None:
    gate = tmp_path / "gate.json"
    gate.write_text(calibrate(shadow, Promise()).certificate.as_json())
    changes = {"audit": 0.5, "seed": 3, "prefetch": True, "max_loaded": 1, "timeouts": {"draft": 5}}
    with team(gate={"calibrated": str(gate)}, **changes) as colm:
        assert colm.ask(Query("Question number 5001?")).gates[0].certificate


def test_a_certificate_of_an_earlier_version_has_no_policy(shadow: Evaluation, tmp_path: Path) -> None:
    record = json.loads(calibrate(shadow, Promise()).certificate.as_json())
    del record["policy"]
    (tmp_path / "gate.json").write_text(json.dumps(record, indent=1))
    assert Certificate.read(tmp_path / "gate.json", "gate.json").as_json() == json.dumps(record, indent=1)
    with team(gate={"calibrated": str(tmp_path / "gate.json")}, blind=True) as colm:
        assert colm.ask(Query("Question number 5001?")).gates[0].certificate


def test_errors_say_why_nothing_can_be_certified(shadow: Evaluation) -> None:
    with pytest.raises(InputError, match=r"cannot certify 0\.5 % with 450 questions .* 598 are needed"):
        calibrate(shadow, Promise(risk=0.005))
    with pytest.raises(InputError, match="no answers of 'moa'"):
        calibrate(shadow, Promise(), strategy="moa")
    with pytest.raises(InputError, match="has no group 'subject'"):
        calibrate(shadow, Promise(groups=("subject",)))


def test_a_run_with_several_rounds_is_refused(tmp_path: Path) -> None:
    rows = [{"question": f"Question number {number}?", "answer": f"#### {number}"} for number in range(4)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    with team(rounds=2) as colm:
        list(run(colm, plan(find("gsm8k"), tmp_path / "rows.jsonl"), ["colm"], tmp_path / "run"))
    with pytest.raises(InputError, match="the run had 2 rounds"):
        calibrate(read_evaluation(tmp_path / "run"), Promise())


def test_each_group_is_certified_at_a_share_of_the_error(shadow: Evaluation) -> None:
    items = {
        key: replace(item, groups={"half": "odd" if int(item.gold[0]) % 2 else "even"})
        for key, item in shadow.items.items()
    }
    grouped = replace(shadow, items=items)
    found = calibrate(grouped, Promise(risk=0.03, groups=("half",))).certificate
    assert found.groups == {"half": ("odd", "even")} or found.groups == {"half": ("even", "odd")}
    with pytest.raises(InputError, match=r"for half '(odd|even)' with \d+ questions for testing; 245 are needed"):
        calibrate(grouped, Promise(risk=0.015, groups=("half",)))


def test_the_report_draws_what_skipping_costs(shadow: Evaluation, tmp_path: Path) -> None:
    write_calibration(calibrate(shadow, Promise()), tmp_path / "gate.json", shadow.folder)
    write_report([shadow.folder], tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text("utf-8")
    assert "## Skipping the server" in text
    assert "at most 2.0 % of accuracy lost, with 95 % confidence" in text


def test_a_gate_names_what_is_wrong_with_its_file(tmp_path: Path) -> None:
    def load(gate: dict[str, str]) -> None:
        clients = [{"name": "one", "backend": "scripted", "model": "m", "replies": ["Answer: 5"]}]
        Team.from_dict({"clients": clients, "policy": {"gate": gate}}, folder=tmp_path)

    with pytest.raises(ConfigError, match=r"gate\.json: cannot be read \(No such file or directory\)"):
        load({"calibrated": "gate.json"})
    (tmp_path / "gate.json").write_text("{")
    with pytest.raises(ConfigError, match=r"gate\.json: not JSON"):
        load({"calibrated": "gate.json"})
    (tmp_path / "gate.json").write_text('{"risk": 2}')
    with pytest.raises(ConfigError, match=r"gate\.json: "):
        load({"calibrated": "gate.json"})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"threshold": math.nan}, "threshold: Input should be a finite number"),
        ({"signals": ("agreement", "mood")}, r"scorer\.signals\.1: Input should be"),
        ({"scales": (1.0, 0.0)}, r"scorer\.scales\.1: Input should be greater than 0"),
        ({"weights": (1.0,)}, "scorer: signals, means, scales and weights differ in number"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_refused(
    shadow: Evaluation, tmp_path: Path, change: dict[str, object], told: str
) -> None:
    certificate = calibrate(shadow, Promise()).certificate
    record = json.loads(certificate.as_json())
    two = {"signals": SIGNALS[:2], "means": (0.0, 0.0), "scales": (1.0, 1.0), "weights": (1.0, 1.0)}
    record["scorer"] |= {**two, **{name: value for name, value in change.items() if name in two}}
    record |= {name: value for name, value in change.items() if name not in two}
    (tmp_path / "gate.json").write_text(json.dumps(record))
    with pytest.raises(ConfigError, match=told):
        Certificate.read(tmp_path / "gate.json", "gate.json")


# --- drift ---


def test_drift_is_detected_with_few_false_alarms() -> None:
    alarms = 0
    for seed in range(400):
        draw, steady = random.Random(seed), DriftTest(0.05)
        for _ in range(500):
            steady.add(draw.random() < 0.05)
        alarms += steady.alarm
    assert alarms / 400 <= 0.05
    draw, drifted = random.Random(1), DriftTest(0.05)
    for _ in range(300):
        drifted.add(draw.random() < 0.2)
    assert drifted.alarm
