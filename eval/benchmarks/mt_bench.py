"""MT-Bench: eighty conversations of two turns, scored by its own judge (lm-sys/FastChat, arXiv 2306.05685)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from typing_extensions import override

from ..dataset import Source, listed, open_rows
from ..types import Item
from .judged import JudgedBenchmark, answer_id

_SECOND = "/2"


class MTBench(JudgedBenchmark):
    """The prompt of the second turn contains the first turn and its answer."""

    name = "mt_bench"
    title = "MT-Bench"
    hub = "HuggingFaceH4/mt_bench_prompts"
    splits = ("train",)
    note = "80 questions of two turns; answer file for FastChat's gen_judgment"

    @override
    def load(self, source: Source) -> Iterator[Item]:
        for row in open_rows(source, ("question_id|prompt_id", "turns|prompt", "category")):
            number = str(row.get("question_id", row.get("prompt_id")))
            turns = [str(turn) for turn in listed(row.get("turns", row.get("prompt")))]
            groups = {"category": str(row["category"])}
            yield Item(number, turns[0], (), "written", groups=groups, turns=tuple(turns[1:2]))

    @override
    def follow_up(self, items: Sequence[Item], replies: Mapping[str, str]) -> list[Item]:
        return [
            replace(
                item,
                id=item.id + _SECOND,
                question=(
                    f"Earlier you were asked:\n{item.question}\n\nYou answered:\n{replies[item.id]}\n\n"
                    f"Now you are asked:\n{item.turns[0]}"
                ),
                turns=(),
            )
            for item in items
            if item.turns and item.id in replies
        ]

    @override
    def answers(self, items: Sequence[Item], replies: Mapping[str, str], model: str) -> list[dict[str, Any]]:
        rows = []
        for item in items:
            turns = [replies[name] for name in (item.id, item.id + _SECOND) if name in replies]
            number: int | str = int(item.id) if item.id.isdecimal() else item.id
            choices = [{"index": 0, "turns": turns}]
            rows.append(
                {
                    "question_id": number,
                    "answer_id": answer_id(model, item),
                    "model_id": model,
                    "choices": choices,
                    "tstamp": 0,
                }
            )
        return rows


BENCHMARKS = (MTBench(),)
