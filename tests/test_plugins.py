"""Plug-ins of other packages, each one module and an entry point: the examples of docs/extending.md."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from processors.families import Budget, Source

EXTENDING = (Path(__file__).parents[1] / "docs" / "extending.md").read_text("utf-8")
EXAMPLES = dict(re.findall(r"```python\n# my_package/(\w+)\.py\n(.*?)```", EXTENDING, re.DOTALL))
"""Source by module."""
ENTRY_POINTS: dict[str, dict[str, str]] = tomllib.loads(
    re.search(r"```toml\n(.*?)```", EXTENDING, re.DOTALL)[1]  # type: ignore[index]
)["project"]["entry-points"]
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
import json, sys
from colm_vl import CoLM, ConfigError, Team
table = {"backend": "scripted", "model": "m"}
clients = [{"name": name, "replies": ["Answer: " + answer], **table} for name, answer in
           (("a", "five"), ("b", "five"), ("c", "four"))]
team = Team.from_dict({"clients": clients, "server": {"replies": ["Evidence: dots"], **table}})
with CoLM(team) as colm:
    mine = colm.ask("How many?", strategy="first_two")
    skipped = colm.ask("How many?", gate={"long_answer": 9})
    asked = colm.ask("How many?", gate="long_answer=3")
for name in ("aaa_broken", "empty", "unheard_of"):
    try:
        team.with_policy(gate=name)
    except ConfigError as error:
        print(error, file=sys.stderr)
print(json.dumps({
    "drafts": [draft.client for draft in mine.drafts],
    "answer": mine.answer,
    "skipped": [decision.asked for decision in skipped.gates],
    "asked": [[decision.asked, decision.reason] for decision in asked.gates],
}))
"""


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder with installed packages: `my_package` with the examples of docs/extending.md, and `mine`."""
    for package in ("my_package", "mine"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    for name, source in EXAMPLES.items():
        (tmp_path / "my_package" / f"{name}.py").write_text(source)
    (tmp_path / "mine" / "tiny_vl.py").write_text(FAMILY)
    (tmp_path / "mine" / "broken.py").write_text("raise RuntimeError('not today')")
    _install(tmp_path, "my_package", ENTRY_POINTS)
    broken = {"broken": "mine.broken"}
    groups = {"colm_vl.strategies": broken, "colm_vl.benchmarks": broken, "colm_vl.exchange": broken}
    groups["colm_vl.gates"] = {"aaa_broken": "mine.broken", "empty": "mine"}
    _install(tmp_path, "mine", {**groups, "processors.families": {**broken, "tiny": "mine.tiny_vl"}})
    return tmp_path


def _install(folder: Path, name: str, entry_points: dict[str, dict[str, str]]) -> None:
    """Write the metadata that pip writes."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [
        [f"[{group}]", *(f"{name} = {value}" for name, value in names.items())] for group, names in entry_points.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(line for group in lines for line in group) + "\n")


def run(elsewhere: Path, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(elsewhere), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_strategy_and_a_gate_of_another_package(elsewhere: Path) -> None:
    done = run(elsewhere, "-c", PROGRAM)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "drafts": ["a", "b"],
        "answer": "five",
        "skipped": [False],
        "asked": [[True, "the longest answer has 4 characters"]],
    }
    assert done.stderr.splitlines() == [
        "gate 'aaa_broken' cannot be imported from mine.broken: RuntimeError: not today",
        "gate 'empty' has no GATE",
        "policy: gate: expected always, disagreement, { calibrated = … }, { confidence = … }, { long_answer = … } "
        "(given: 'unheard_of')",
    ]


def test_a_backend_of_another_package(elsewhere: Path, tmp_path: Path) -> None:
    team = tmp_path / "team.toml"
    team.write_text(
        '[[clients]]\nname = "one"\nbackend = "parrot"\nmodel = "m"\ngreeting = "good day"\n'
        '[policy]\nstrategy = "vote"\n'
    )
    asked = run(elsewhere, "-m", "colm_vl.cli", "ask", "-q", "How are you?", "--team", str(team))
    assert asked.returncode == 0, asked.stderr
    assert "Answer: good day" in asked.stdout
    assert run(elsewhere, "-m", "colm_vl.cli", "team", "check", str(team)).returncode == 0


def test_the_command_line_lists_plugins_and_reports_broken_ones(elsewhere: Path) -> None:
    listed = run(elsewhere, "-m", "colm_vl.cli", "ask", "--help")
    assert "the first two clients vote" in " ".join(listed.stdout.replace("│", " ").split())
    refused = run(elsewhere, "-m", "colm_vl.cli", "ask", "-q", "How many?", "--strategy", "broken")
    assert refused.returncode == 2
    assert "strategy 'broken' cannot be imported from mine.broken: RuntimeError: not today" in refused.stderr
    wrong = run(elsewhere, "-m", "colm_vl.cli", "ask", "-q", "How many?", "--gate", "long_answer=long")
    assert "gate: long_answer: Input should be a valid integer" in wrong.stderr


def test_a_benchmark_of_another_package(elsewhere: Path, tmp_path: Path) -> None:
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


def test_a_metric_of_another_package(elsewhere: Path, tmp_path: Path) -> None:
    (tmp_path / "questions.csv").write_text("id,question,answer\n1,What time is it?,09:30\n2,And now?,09:40\n")
    (tmp_path / "replies.json").write_text('{"1": "09:33", "2": "nine"}')
    command = ("-m", "colm_vl.cli", "eval", "score", "questions.csv", "--predictions", "replies.json", "--json")
    scored = run(elsewhere, *command, "--metric", "clock,minutes=5", cwd=tmp_path)
    assert scored.returncode == 0, scored.stderr
    assert json.loads(scored.stdout)["grades"] == {"1": 1, "2": 0}
    refused = run(elsewhere, *command, "--metric", "clock,minute=5", cwd=tmp_path)
    assert "metric clock: unknown key 'minute'" in refused.stderr


def test_a_format_of_another_package(elsewhere: Path, tmp_path: Path) -> None:
    (tmp_path / "questions.csv").write_text("id,question,answer\n1,Who?,Ann\n2,And?,Bo\n")
    (tmp_path / "team.toml").write_text(
        '[[clients]]\nname = "one"\nbackend = "scripted"\nmodel = "m"\nreplies = [{ text = "Answer: Ann" }]\n'
    )
    for command in (
        "run questions.csv --team team.toml --strategies vote --out run",
        "export run --to two-columns --out .",
        "score questions.csv --predictions vote.bars --json",
    ):
        done = run(elsewhere, "-m", "colm_vl.cli", "eval", *command.split(), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "vote.bars").read_text() == "1||Ann\n2||Ann"
    assert json.loads(done.stdout)["grades"] == {"1": 1, "2": 0}
    (tmp_path / "replies.csv").write_text("id,prediction\n1,Ann\n2,Bo\n")
    other = run(
        elsewhere, "-m", "colm_vl.cli", "eval", "score", "questions.csv", "--predictions", "replies.csv", cwd=tmp_path
    )
    assert other.returncode == 0, other.stderr
    assert "format 'broken' cannot be imported from mine.broken: RuntimeError: not today" in other.stderr


def test_a_family_of_another_package(elsewhere: Path) -> None:
    """Families of the project's own come first; a module that cannot be imported is passed over."""
    done = run(elsewhere, "-c", LOAD)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "the family of tiny_vl",
        "processors.families.llava processors.families.generic",
    ]
    assert "family 'broken' cannot be imported from mine.broken" in done.stderr


def test_the_family_of_contributing(tiny: Callable[[str], Path]) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: pip install '.[local]'")
    module: dict[str, Any] = {}
    exec(EXAMPLES["internvl"], module)
    source = Source(str(tiny("llava")))
    family = module["load"](transformers.AutoConfig.from_pretrained(source.model), source, Budget())
    text = {"type": "text", "text": "What is it?"}
    assert family.encode([[{"role": "user", "content": [text]}]])["input_ids"].shape[0] == 1


def test_contributing_shows_one_of_each() -> None:
    registered = {value.removeprefix("my_package.") for names in ENTRY_POINTS.values() for value in names.values()}
    assert registered == EXAMPLES.keys()
    assert ENTRY_POINTS.keys() == {
        "colm_vl.backends", "colm_vl.strategies", "colm_vl.gates", "colm_vl.benchmarks", "colm_vl.metrics",
        "colm_vl.exchange", "processors.families",
    }  # fmt: skip
