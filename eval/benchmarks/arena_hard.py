"""Arena-Hard: hard prompts of users; its own judge compares the answers (lmarena/arena-hard-auto, arXiv 2406.11939)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from typing_extensions import override

from ..dataset import Source, listed, open_rows
from ..types import Item
from .judged import JudgedBenchmark, answer_id


class ArenaHard(JudgedBenchmark):
    name = "arena_hard"
    title = "Arena-Hard 2.0"
    hub = "lmarena-ai/arena-hard-auto"
    note = "answer file for its `gen_judgment.py`; give question.jsonl with --data"

    @override
    def load(self, source: Source) -> Iterator[Item]:
        for row in open_rows(source, ("uid|question_id", "prompt|turns")):
            prompt = row["prompt"] if "prompt" in row else _first_turn(row["turns"])
            groups = {"category": str(row["category"])} if row.get("category") else {}
            yield Item(str(row.get("uid", row.get("question_id"))), str(prompt), (), "written", groups=groups)

    @override
    def answers(self, items: Sequence[Item], replies: Mapping[str, str], model: str) -> list[dict[str, Any]]:
        return [
            {
                "uid": item.id,
                "ans_id": answer_id(model, item),
                "model": model,
                "messages": [
                    {"role": "user", "content": item.question},
                    {"role": "assistant", "content": {"answer": replies[item.id]}},
                ],
                "tstamp": 0,
                "metadata": {},
            }
            for item in items
        ]


def _first_turn(turns: Any) -> str:
    """In the first version, a prompt is a list of turns with one entry."""
    first = listed(turns)[0]
    return str(first["content"] if isinstance(first, dict) else first)


BENCHMARKS = (ArenaHard(),)
