"""Fixtures that start the page in its own process, with a team of scripted models."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEAM = '''
[[clients]]
name = "shapes"
specialty = "coloured shapes"
backend = "scripted"
model = "qwen3-vl"
replies = [
  { when = ["Point", "The gridline"], text = """Caption: The **door** has $\\\\frac{1}{2}$ of
{"bbox_2d": [400, 550, 600, 1000], "label": "a door"}
Answer: the *door*""" },
  { when = ["Point"], text = """Caption: five dark windows in a blue wall
Answer: a window <script>alert(1)</script>""" },
  { when = ["Inject"], text = """Caption: <img src=x onerror=alert(1)> ${alert(2)} {{constructor}}
Answer: <b id=injected>bold</b>
Confidence: 50""" },
  { when = ["The gridline", "bicycles"], text = "Caption: seven bars\\nAnswer: July\\nConfidence: 90", delay = 0.3 },
  { when = ["Whose", "amber"], text = "Answer: amber" },
  { when = ["Whose", "violet"], text = "Answer: violet", delay = 0.5 },
  { text = "Caption: bars of several heights\\nAnswer: August\\nConfidence: 55", delay = 0.6 },
]

[[clients]]
name = "charts"
specialty = "charts and tables"
backend = "scripted"
model = "charts"
probability = 0.93
replies = [
  { when = ["Point", "The gridline"], text = "Caption: a red door in a blue wall\\nAnswer: the door" },
  { when = ["Point"], text = "Caption: a dark window in a blue wall\\nAnswer: the window" },
  { when = ["Break"], error = "unreachable", text = "charts: nothing answers at the address" },
  { when = ["Take your time"], text = "Answer: late", delay = 60 },
  { when = ["Whose", "amber"], text = "Answer: amber" },
  { when = ["Whose", "violet"], text = "Answer: violet" },
  { text = "Caption: a bar chart, July is highest\\nAnswer: July", delay = 0.3 },
]

[[clients]]
name = "photos"
specialty = "photographs"
backend = "scripted"
model = "photos"
replies = [
  { when = ["Whose", "amber"], text = "Answer: amber" },
  { when = ["Whose", "violet"], text = "Answer: violet" },
  { text = "Answer: June\\nConfidence: 40", delay = 0.2 },
]

[server]
backend = "scripted"
model = "guide"
replies = [
  { delay = 1.2, text = """
Evidence: the bar over Jul is highest.
Disagreement: three months.
Check: The gridline at 400.""" },
]
'''


@dataclass(frozen=True, slots=True)
class Served:
    url: str
    feedback: Path


@pytest.fixture(scope="session")
def team_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("team") / "team.toml"
    file.write_text(TEAM, encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def served(team_file: Path) -> Iterator[Served]:
    """The page on a free port, stopped at the end of the session."""
    pytest.importorskip("gradio", reason="gradio is not installed: pip install 'colm-vl[demo]'")
    port, feedback, log = free_port(), team_file.with_name("feedback.jsonl"), team_file.with_name("log")
    command = [sys.executable, "-m", "demos.image_qa", "--team", str(team_file), "--port", str(port)]
    with log.open("w") as written:
        process = subprocess.Popen(
            [*command, "--feedback", str(feedback)], cwd=ROOT, stdout=written, stderr=written, env=environment()
        )
    try:
        wait_until_listening(process, port, log)
        yield Served(f"http://127.0.0.1:{port}", feedback)
    finally:
        process.terminate()
        process.wait(timeout=20)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONWARNINGS": "ignore", "NO_PROXY": "127.0.0.1"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_listening(process: subprocess.Popen[bytes], port: int, log: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)  # a port cannot be awaited
    raise AssertionError(f"the page did not start: {log.read_text(encoding='utf-8')}")
