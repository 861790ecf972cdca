"""Teams, questions and helpers for tests of batches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.teams import FIVE, GUIDANCE, Scripted, scripted


def wording(number: int) -> str:
    return f"How many dots in number {number}?"


def write_questions(folder: Path, count: int, **more: Any) -> Path:
    path = folder / "questions.jsonl"
    rows = ({"id": f"q{number}", "question": wording(number), **more} for number in range(count))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def near_and_far(**policy: Any) -> Scripted:
    return scripted({"near": [FIVE], "far": ["Answer: 4\nConfidence: 20"]}, [GUIDANCE], **policy)


def calls_made(colm: Scripted) -> dict[str, int]:
    return {name: len(backend.requests) for name, backend in colm.backends.items()}


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
