"""AlpacaEval 2.0: 805 instructions; its own annotator compares the answers (tatsu-lab/alpaca_eval)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

from typing_extensions import override

from ..dataset import Source, open_rows
from ..types import Item
from .judged import JudgedBenchmark


class AlpacaEval(JudgedBenchmark):
    name = "alpaca_eval"
    title = "AlpacaEval 2.0"
    hub = "tatsu-lab/alpaca_eval"
    splits: ClassVar[tuple[str, ...]] = ("eval",)
    answer_format: ClassVar[Literal["json", "jsonl"]] = "json"
    note = "answer file for `alpaca_eval --model_outputs`"

    @override
    def load(self, source: Source) -> Iterator[Item]:
        for number, row in enumerate(open_rows(source, ("instruction",))):
            groups = {"dataset": str(row["dataset"])} if row.get("dataset") else {}
            yield Item(str(number), str(row["instruction"]), (), "written", groups=groups)

    @override
    def answers(self, items: Sequence[Item], replies: Mapping[str, str], model: str) -> list[dict[str, Any]]:
        return [
            {
                "dataset": item.groups.get("dataset", ""),
                "instruction": item.question,
                "output": replies[item.id],
                "generator": model,
            }
            for item in items
        ]


BENCHMARKS = (AlpacaEval(),)
