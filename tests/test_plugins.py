"""What packages of other people add: one file and an entry point each, and no edit of ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

STRATEGY = '''
from colm_vl.stages import draft, settle_by_vote
from colm_vl.strategies import Strategy

async def first_two(run):
    """The first two clients vote."""
    settle_by_vote(run, list((await draft(run, run.team.clients[:2])).values()))

STRATEGY = Strategy(first_two, "the first two clients vote")
'''
GATE = '''
from colm_vl.answers import all_agree
from colm_vl.gates import Gate
from colm_vl.types import Decision

class LongAnswerGate(Gate):
    """Asks the server when an answer is long."""

    long_answer: int

    def decide(self, replies):
        longest = max(len(reply.answer) for reply in replies.values())
        return Decision(longest > self.long_answer, f"the longest answer has {longest} characters")

GATE = LongAnswerGate
'''
PROGRAM = """
import json
from colm_vl import CoLM, Team
table = {"backend": "scripted", "model": "m"}
clients = [{"name": name, "replies": ["Answer: " + answer], **table} for name, answer in
           (("a", "five"), ("b", "five"), ("c", "four"))]
team = Team.from_dict({"clients": clients, "server": {"replies": ["Evidence: dots"], **table}})
with CoLM(team) as colm:
    mine = colm.ask("How many?", strategy="first_two")
    skipped = colm.ask("How many?", gate={"long_answer": 9})
    asked = colm.ask("How many?", gate="long_answer=3")
print(json.dumps({
    "drafts": [draft.client for draft in mine.drafts],
    "answer": mine.answer,
    "skipped": [decision.asked for decision in skipped.gates],
    "asked": [[decision.asked, decision.reason] for decision in asked.gates],
}))
"""


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder with an installed package, as pip leaves it."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").touch()
    (tmp_path / "mine" / "first_two.py").write_text(STRATEGY)
    (tmp_path / "mine" / "long_answer.py").write_text(GATE)
    (tmp_path / "mine" / "broken.py").write_text("raise RuntimeError('not today')")
    info = tmp_path / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[colm_vl.strategies]\nfirst_two = mine.first_two\nbroken = mine.broken\n"
        "[colm_vl.gates]\nlong_answer = mine.long_answer\n"
    )
    return tmp_path


def run(elsewhere: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(elsewhere), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_strategy_and_a_gate_from_elsewhere(elsewhere: Path) -> None:
    done = run(elsewhere, "-c", PROGRAM)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "drafts": ["a", "b"],
        "answer": "five",
        "skipped": [False],
        "asked": [[True, "the longest answer has 4 characters"]],
    }


def test_the_command_line_lists_them_and_tells_one_that_cannot_be_loaded(elsewhere: Path) -> None:
    listed = run(elsewhere, "-m", "colm_vl.cli", "ask", "--help")
    assert "the first two clients vote" in " ".join(listed.stdout.replace("│", " ").split())
    refused = run(elsewhere, "-m", "colm_vl.cli", "ask", "-q", "How many?", "--strategy", "broken")
    assert refused.returncode == 2
    assert "strategy 'broken' cannot be imported from mine.broken: RuntimeError: not today" in refused.stderr
    wrong = run(elsewhere, "-m", "colm_vl.cli", "ask", "-q", "How many?", "--gate", "long_answer=long")
    assert "gate: long_answer: Input should be a valid integer" in wrong.stderr
