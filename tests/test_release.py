"""What a release needs: one version everywhere, its notes, and workflows with pinned actions and few permissions."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import colm_vl

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: pip install 'colm-vl[dev]'")

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def notes(tag: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / ".github/release_notes.py"), tag]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)


def test_the_notes_of_a_release_are_its_section_of_the_changelog() -> None:
    done = notes(f"v{colm_vl.__version__}")
    assert done.returncode == 0, done.stderr
    assert "### " in done.stdout
    assert not re.search(r"^##? ", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("tag", ["v0.0.1", colm_vl.__version__, "main"])
def test_a_tag_that_is_not_the_version_is_refused(tag: str) -> None:
    done = notes(tag)
    assert (done.returncode, done.stdout) == (1, "")
    assert repr(tag) in done.stderr
    assert f"expected 'v{colm_vl.__version__}'" in done.stderr


def test_the_citation_has_the_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == colm_vl.__version__
    assert f"## {citation['version']} - {citation['date-released']}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_and_permissions_are_given_to_single_jobs(path: Path) -> None:
    text = path.read_text("utf-8")
    for used in re.findall(r"uses: (.+)", text):
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", used) or used.startswith("./"), used
    workflow: dict[str, Any] = yaml.safe_load(text)
    assert workflow["permissions"] == {}
    for name, job in workflow["jobs"].items():
        writes = {scope for scope, access in job["permissions"].items() if access == "write"}
        allowed = {"pypi": {"id-token", "attestations"}, "github": {"contents"}}.get(name, set())
        assert writes == (allowed if path.name == "release.yml" else set())
    assert "secrets." not in text


def commands(path: Path) -> Iterator[str]:
    for job in yaml.safe_load(path.read_text("utf-8"))["jobs"].values():
        yield from (step["run"] for step in job.get("steps", ()) if "run" in step)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_run_targets_and_files_that_exist(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for command in commands(path):
        assert set(re.findall(r"\bmake ([a-z-]+)", command)) <= targets
        for name in re.findall(r"(?<![\w./-])(?:tests|tools|\.github)/[\w./-]+", command):
            assert (ROOT / name).exists(), name


def test_ci_tests_every_supported_python_on_every_system() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    pythons = [line.split()[-1] for line in project["classifiers"] if re.search(r":: 3\.\d+$", line)]
    assert project["requires-python"] == f">={pythons[0]}"
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))["jobs"]
    for job in ("minimal", "full"):
        matrix = jobs[job]["strategy"]["matrix"]
        assert matrix["python"] == pythons
        assert {system.split("-")[0] for system in matrix["os"]} == {"ubuntu", "macos", "windows"}


def test_ci_checks_lock_licences_documentation_and_wheel() -> None:
    ran = "\n".join(commands(ROOT / ".github/workflows/ci.yml"))
    for command in ("make lock-check", "make licences", "make docs", "make test-browser", "python -m build", "mypy"):
        assert command in ran
