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
BENCHMARK = """
from colm_vl.eval.benchmarks.base import Benchmark
from colm_vl.eval.dataset import open_rows
from colm_vl.eval.types import Item, ParsedAnswer

class Capitals(Benchmark):
    name = "capitals"
    title = "Capital cities"
    modality = "text"
    requires_image = False
    note = "of countries"

    def load(self, source):
        for number, row in enumerate(open_rows(source, ("country", "capital"))):
            yield Item(str(number), f"What is the capital of {row['country']}?", (row["capital"],), "open")

    def official(self, item, reply):
        return ParsedAnswer(reply.strip(), "whole reply")

BENCHMARKS = (Capitals(),)
"""
FAMILY = """
MODEL_TYPES = frozenset({"tiny_vl", "llava"})

def load(config, source, budget):
    return f"the family of {config.model_type}"
"""
LOAD = """
import sys
from types import SimpleNamespace
from processors.families import Budget, Source, load
print(load(SimpleNamespace(model_type="tiny_vl"), Source("folder"), Budget(), sees=True))
from processors import families
print(families._module_for("llava", True).__name__, families._module_for("unheard_of", True).__name__)
assert "torch" not in sys.modules
"""
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
    (tmp_path / "mine" / "capitals.py").write_text(BENCHMARK)
    (tmp_path / "mine" / "tiny_vl.py").write_text(FAMILY)
    (tmp_path / "mine" / "broken.py").write_text("raise RuntimeError('not today')")
    info = tmp_path / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[colm_vl.strategies]\nfirst_two = mine.first_two\nbroken = mine.broken\n"
        "[colm_vl.gates]\nlong_answer = mine.long_answer\n"
        "[colm_vl.benchmarks]\ncapitals = mine.capitals\nbroken = mine.broken\n"
        "[processors.families]\nbroken = mine.broken\ntiny = mine.tiny_vl\n"
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


def test_a_benchmark_from_elsewhere(elsewhere: Path, tmp_path: Path) -> None:
    listed = run(elsewhere, "-m", "colm_vl.cli", "eval", "list")
    assert listed.returncode == 0, listed.stderr
    assert "Capital cities" in listed.stdout
    assert "benchmark 'broken' cannot be imported from mine.broken: RuntimeError: not today" in listed.stderr
    rows = [{"country": "France", "capital": "Paris"}, {"country": "Peru", "capital": "Lima"}]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    (tmp_path / "team.toml").write_text(
        '[[clients]]\nname = "one"\nbackend = "scripted"\nmodel = "m"\nreplies = [{ text = "Answer: Lima" }]\n'
    )
    files = [
        "--data",
        str(tmp_path / "rows.json"),
        "--team",
        str(tmp_path / "team.toml"),
        "--out",
        str(tmp_path / "run"),
    ]
    asked = run(elsewhere, "-m", "colm_vl.cli", "eval", "run", "capitals", *files, "--strategies", "solo:one")
    assert asked.returncode == 0, asked.stderr
    assert "50.0%" in asked.stdout
    report = ["eval", "report", str(tmp_path / "run"), "--out", str(tmp_path / "report")]
    assert run(elsewhere, "-m", "colm_vl.cli", *report).returncode == 0
    refused = run(elsewhere, "-m", "colm_vl.cli", "eval", "run", "broken", *files)
    assert refused.returncode == 2
    assert "benchmark 'broken' cannot be imported" in refused.stderr.splitlines()[-1]


def test_a_family_from_elsewhere(elsewhere: Path) -> None:
    """Families of the project's own come first; a module that cannot be imported is passed over."""
    done = run(elsewhere, "-c", LOAD)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "the family of tiny_vl",
        "processors.families.llava processors.families.generic",
    ]
    assert "family 'broken' cannot be imported from mine.broken" in done.stderr
