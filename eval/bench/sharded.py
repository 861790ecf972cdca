"""Measures shards, their merge, and resuming a finished run, with scripted clients."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from colm_vl import BatchStats, CoLM, Team, merge_shards

from .endpoints import Memory
from .figures import Figure

SHARDS = 16


def sharded(questions: int) -> Sequence[Figure]:
    """The whole run is answered in 16 shards, which are resumed, merged, and resumed as one run."""
    client = {"name": "client", "backend": "scripted", "model": "script", "replies": ["Answer: 5\nConfidence: 80"]}
    team = Team.from_dict({"clients": [client], "policy": {"strategy": "vote"}})
    with tempfile.TemporaryDirectory() as folder, CoLM(team) as colm:
        path, out = Path(folder) / "questions.jsonl", Path(folder) / "run"
        rows = ({"id": f"q{number}", "question": f"How many dots are in {number}?"} for number in range(questions))
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")

        def answer(shard: str | None) -> BatchStats:
            stats = BatchStats()
            for _ in colm.batch(path, out, concurrency=16, stats=stats, shard=shard):
                pass
            return stats

        shards = [f"{index}/{SHARDS}" for index in range(1, SHARDS + 1)]
        for shard in shards:
            answer(shard)
        one = _timed(lambda: answer(shards[0]))
        merging = _timed(lambda: merge_shards(out))
        stats = BatchStats()
        with Memory(stats) as used:
            begun = time.monotonic()
            for _ in colm.batch(path, out, concurrency=16, stats=stats):
                pass
            resuming = time.monotonic() - begun
    assert (stats.kept, stats.calls) == (questions, 0)
    what = f"{questions:,} questions that were answered in {SHARDS} shards"
    return [
        Figure("resuming a finished shard", f"{one:.1f} s", "≤ 20 s", one <= 20, f"{what}; reads those of the others"),
        Figure("merging shards", f"{merging:.1f} s", "≤ 60 s", merging <= 60, what),
        Figure("resuming a finished run", f"{resuming:.1f} s", "≤ 20 s", resuming <= 20, f"{what}, after the merge"),
        Figure(
            "growth of resident memory while a finished run is resumed",
            f"{used.growth / 1e6:.0f} MB",
            "≤ 200 MB",
            used.growth <= 200e6,
            f"{what}; from {used.base / 1e6:.0f} MB to a peak of {used.peak / 1e6:.0f} MB",
        ),
    ]


def _timed(work: Callable[[], object]) -> float:
    begun = time.monotonic()
    work()
    return time.monotonic() - begun
