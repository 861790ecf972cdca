"""A run of scripted members in which everything happens that the viewer of a report can filter by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

from colm_vl import CoLM, Team
from colm_vl.batch.questions import Questions
from eval.evaluator import plan, run
from eval.labelled import read_labelled
from eval.own_questions import OwnQuestions

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
TEAM = """
[[clients]]
name = "one"
backend = "scripted"
model = "script"
replies = [
  { when = ["Guidance from", "corrected"], text = "Caption: a red bus\\nAnswer: red\\nConfidence: 80" },
  { when = ["Guidance from", "regressed"], text = "Answer: blue" },
  { when = ["broken"], error = "unreachable", text = "one: nothing answers at the address" },
  { when = ["hostile"], text = "Caption: HOSTILE\\nAnswer: HOSTILE" },
  { when = ["regressed"], text = "Answer: red" },
  { text = "Caption: a blue bus\\nAnswer: blue\\nConfidence: 60" },
]

[[clients]]
name = "two"
backend = "scripted"
model = "script"
replies = [
  { when = ["unread"], text = "Caption: a street" },
  { when = ["Guidance from", "regressed"], text = "Answer: blue" },
  { text = "Answer: red\\nConfidence: 75" },
]

[[clients]]
name = "three"
backend = "scripted"
model = "script"
replies = ["Answer: red"]

[server]
backend = "scripted"
model = "script"
replies = ["Evidence: a bus HOSTILE.\\nDisagreement: two colours.\\nCheck: its side."]
"""
KINDS = ("corrected", "regressed", "unread", "broken", "hostile", *["plain"] * 5)


def write_run(folder: Path, count: int) -> Path:
    """`count` questions, of each tenth one kind; returns the run folder."""
    Image.effect_noise((400, 300), 50).save(folder / "bus.png")
    Image.new("RGB", (40, 30), "red").save(folder / "gone.png")
    rows = [_row(number) for number in range(count)]
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "team.toml").write_text(TEAM.replace("HOSTILE", HOSTILE))
    asked = Questions(folder / "questions.jsonl")
    labelled = read_labelled(asked, answer_column="answer", group_columns=["place"], metric="", pictures=True)
    with CoLM(Team.load(folder / "team.toml").with_policy(strategy="vote")) as colm:
        planned = plan(OwnQuestions("questions.jsonl", labelled, asked), None)
        for _ in run(colm, planned, ["vote", "colm"], folder / "run", concurrency=64):
            pass
    (folder / "gone.png").unlink()
    return folder / "run"


def _row(number: int) -> dict[str, Any]:
    kind = KINDS[number % len(KINDS)]
    text = f"Number {number}, {kind}: which colour has the bus? {HOSTILE if kind == 'hostile' else ''}"
    picture = "gone.png" if kind == "broken" else "bus.png"
    place = ("street", "garage")[number % 2]
    return {"id": f"q{number}", "question": text, "image": picture, "place": place, "answer": "red"}
