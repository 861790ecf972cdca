"""The scripts and notebooks of examples/: each is run as a user would run it, in a process of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
SCRIPTS = {path.stem for path in EXAMPLES.glob("*.py")}
NOTEBOOKS = {path.stem for path in EXAMPLES.glob("*.ipynb")}
SECONDS = 600
pytestmark = pytest.mark.timeout(SECONDS + 60)  # on a busy machine, importing torch alone takes a minute
EXECUTE = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=500, kernel_name="python3").execute()
sys.stdout.write(nbformat.writes(notebook))
"""
SCRIPTED = """
[[clients]]
name = "eyes"
backend = "scripted"
model = "script"
replies = [
    { when = ["at the top right", "at the bottom right"], text = "Answer: both turns were seen" },
    { when = "at the top right", text = "Answer: 5" },
    "Answer: 6",
]

[[clients]]
name = "ears"
backend = "scripted"
model = "script"
replies = [{ when = "the last digit", text = "Answer: 6" }, "Answer: 9"]

[server]
backend = "scripted"
model = "script"
replies = ["Evidence: 9 over 6\\nCheck: the last digit"]
"""
"""A team for examples whose point is not what models answer; it needs no torch."""


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("team") / "scripted.toml"
    path.write_text(SCRIPTED)
    return path


def arguments(name: str, scripted: Path) -> Sequence[str]:
    """The command of a script or notebook. Most of their time is that of importing torch, so a few have no models."""
    if name in NOTEBOOKS:
        return ["-c", EXECUTE, f"{name}.ipynb"]
    options = {
        **dict.fromkeys(("conversation", "costs", "evaluate", "stream"), ("--team", str(scripted))),
        "calibrate": ("--limit", "24", "--risk", "0.4"),
        "batch": ("--limit", "5"),
    }
    return [f"{name}.py", *options.get(name, ())]


def output(command: Sequence[str]) -> str:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "PYTHONIOENCODING": "utf-8",
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run(
        [sys.executable, *command],
        cwd=EXAMPLES,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


PRINTED = {
    "ask": [
        r"Drafts\n(  \w+ +[69] \(\d+%\)\n){3}",
        r"Guidance\n  Evidence: top 9 5, bottom 5 6\n",
        r"(  \w+ +6 \(\d+%\), (kept|changed)\n){3}\nAnswer: 6\n",
    ],
    "batch": [
        r"at most 35 calls for 5 questions",
        r"first run.*\n(  [1-3]/5 .*\n){3}  0 answers were there before, \d+ calls made, 0 calls reused",
        r"second run.*\n(  [1-5]/5 .*\n){5}  [3-5] answers were there before, \d+ calls made, \d+ calls reused",
        r"answers.jsonl, calls.jsonl, run.json, traces.jsonl",
    ],
    "calibrate": [
        r"promise .* at most 40.0 % of accuracy lost",
        r"with the calibrated gate\n(  \w+-\d+ +(asked|skipped): .+\n){3}",
    ],
    "compare": [
        r"(solo|vote|colm) +\d+% \[\d+%, \d+%\], 24 calls if run alone",
        r"colm +\d+% \[\d+%, \d+%\], 168 calls if run alone",
        r"colm instead of vote: [+-]\d+ points \[[+-]\d+, [+-]\d+\], adjusted p = \d",
        r"what refinement changed\n(  \w+ +\d+ corrected, \d+ made wrong\n)+",
    ],
    "conversation": [r"\[0 earlier turns\] .*\n    5\n\[2 earlier turns\] .*\n    both turns were seen"],
    "costs": [
        r"( +[\d.]+ +[\d.]+ +(unknown|[\d.]+) .*(draft|guide|refine) \w+\n){5}",
        r"guide   1 calls, \d+ \+ \d+ tokens, 1 pictures, 0 bytes",
        r"total   5 calls in [\d.]+ s",
    ],
    "custom_backend": [r"shapes-6 +(red|orange) +\(fine \w+, coarse \w+, coarser \w+\)", r"counting-7 "],
    "custom_gate": [
        r"What is the total\? +'always' +asked +5 calls",
        r"What is the total\? +AmountGate\(amount=20.0\) +asked +5 calls  the largest amount is 41.5",
        r"What is the total\? +AmountGate\(amount=100.0\) +skipped +2 calls",
    ],
    "evaluate": [
        r"colm: \d+% of 24 questions, 95 % interval \d+% to \d+%",
        r"  digits     \d+% of 6, \d+% to \d+%",
        r"wrong answers\n(  \w+-\d+: \w.*\n)+",
    ],
    "laptops": [
        r"ada, share = images: .* → 6\n  to the service: 1 pictures",
        r"bob, share = captions: .* → \w+\n  to the service: 0 pictures",
    ],
    "service": [
        r"models: colm, .*vote",
        r"httpx, strategy vote.*\n  answer: 9\n  votes: \{'9': \['\w+', '\w+'\], '6': \['digits'\]\}",
        r"(?s)openai SDK.*Evidence: top 9 5, bottom 5 6.*\nanswer: 6\n",
    ],
    "stream": [
        r"draft: eyes, ears\n",
        r"  ears: 9\n",
        r"guidance: Evidence: 9 over 6; Check: the last digit",
        r"answer: 6 \(vote\)\n.* 5 calls, \d+ pieces of text",
    ],
}


IN_TABLES = {
    "first-steps": ["bar charts and comparing two pictures", "confidence", "solo:digits"],
    "evaluation": ["solo:digits", "p_adjusted", "prompt_tokens", "corrected"],
}


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_a_script_prints(name: str, scripted: Path) -> None:
    printed = output(arguments(name, scripted))
    assert [pattern for pattern in PRINTED[name] if not re.search(pattern, printed)] == [], printed


@pytest.mark.parametrize("name", sorted(NOTEBOOKS))
def test_a_notebook_shows(name: str, scripted: Path) -> None:
    cells = json.loads(output(arguments(name, scripted)))["cells"]
    shown = [output["data"] for cell in cells for output in cell.get("outputs", ()) if "data" in output]
    assert len([data for data in shown if "image/png" in data]) >= 2
    tables = " ".join("".join(data.get("text/html", "")) for data in shown)
    assert [word for word in IN_TABLES[name] if word not in tables] == []


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_are_stored_without_outputs(path: Path) -> None:
    cells = json.loads(path.read_text("utf-8"))["cells"]
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]


def test_the_table_lists_every_example_and_the_scripts_are_short() -> None:
    table = (EXAMPLES / "README.md").read_text("utf-8")
    listed = re.findall(r"^\| \[`([\w-]+)\.(?:py|ipynb)`\]", table, re.MULTILINE)
    assert sorted(listed) == sorted(SCRIPTS | NOTEBOOKS)
    assert [name for name in SCRIPTS if len((EXAMPLES / f"{name}.py").read_text("utf-8").splitlines()) > 80] == []
