"""Policy keys in `--help` and on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from colm_vl import ConfigError, Policy
from colm_vl.gates.disagreement import DisagreementGate
from colm_vl.policies import policy_keys, read_settings
from colm_vl.strategies import known
from tests.test_cli import CLIENT, SERVER, colm_vl


def test_every_key_is_described_and_every_strategy_named() -> None:
    assert {key.name.partition(".")[0] for key in policy_keys()} == set(Policy.model_fields)
    assert all(key.about for key in policy_keys())
    strategies = next(key.about for key in policy_keys() if key.name == "strategy")
    assert all(name in strategies for name in known())


@pytest.mark.parametrize("command", ["ask", "batch"])
def test_help_lists_every_key(command: str) -> None:
    shown = colm_vl(command, "--help").stdout
    assert all(key.name in shown for key in policy_keys())


def test_settings_reach_tables_and_leave_the_rest_of_them() -> None:
    changes = read_settings(
        ["timeouts.draft=20", "sampling.refine.temperature = 0.2", "gate=disagreement", "blind=true"]
    )
    policy = Policy(timeouts={"guide": 7}).updated(changes)  # type: ignore[arg-type]
    assert (policy.timeouts.draft, policy.timeouts.guide, policy.timeouts.refine) == (20, 7, 300)
    assert (policy.sampling.refine.temperature, policy.sampling.select.max_tokens) == (0.2, 64)
    assert (policy.gate, policy.blind) == (DisagreementGate(), True)
    assert Policy().updated(read_settings(["gate = { confidence = 0.9 }"])) == Policy().updated(
        {"gate": "confidence=0.9"}
    )
    assert Policy().updated(read_settings(["asker=1.5 x"])).asker == "1.5 x"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["rounds"], "--set 'rounds': expected key=value"),
        (["=2"], "expected key=value"),
        (["a..b=2"], "expected key=value"),
        (["rounds=2", "rounds=3"], "rounds is given twice"),
        (["timeouts=2", "timeouts.draft=3"], "timeouts is given a value already"),
        (["timeouts.draft=3", "timeouts=2"], "timeouts is given twice"),
    ],
)
def test_invalid_settings_are_refused(settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_settings(settings)
    assert message in raised.value.message
    assert raised.value.hint


def test_settings_apply_to_questions_and_batches(tmp_path: Path) -> None:
    team = tmp_path / "team.toml"
    replies = '["Answer: 4", "Answer: 5", "Answer: 6"]'
    team.write_text("".join(CLIENT.format(name=name, replies=replies) for name in ("near", "far")) + SERVER)
    asked = ["ask", "-q", "How many?", "--team", team, "--json"]
    trace = json.loads(colm_vl(*asked, "--set", "rounds=2", "--set", "top_k=1", "--set", "select=specialty").stdout)
    assert (len(trace["drafts"]), len(trace["refinements"])) == (1, 2)
    for arguments, message in (
        (["--set", "roundz=2"], "unknown key 'roundz'"),
        (["--set", "timeouts.drafts=2"], "timeouts.drafts"),
        (["--set", "rounds=2", "--rounds", "2"], "rounds is given twice: with --set and with its own option"),
    ):
        done = colm_vl(*asked, *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert message in done.stderr
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"id": "1", "question": "How many?"}\n')
    done = colm_vl("batch", questions, "--team", team, "--out", tmp_path / "out", "--set", "strategy=vote")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "traces.jsonl").read_text())["strategy"] == "vote"
