"""AI2D: questions about diagrams from school books (Kembhavi et al., arXiv 1603.07396).

There is no official script. Columns: on the hub, a list in `options` and the answer's index from 0, as a string
(EvolvingLMMs-Lab/lmms-eval, commit 75571cfe, `lmms_eval/tasks/ai2d/utils.py`); VLMEvalKit's AI2D_TEST has letters.
"""

from __future__ import annotations

from types import MappingProxyType

from typing_extensions import override

from ..dataset import Row, Source
from ..types import Item
from .multiple_choice import MultipleChoiceBenchmark


class AI2D(MultipleChoiceBenchmark):
    name = "ai2d"
    title = "AI2D"
    hub = "lmms-lab-encoder/ai2d"
    group_columns = MappingProxyType({"category": ("category",)})
    note = "3,088 test questions about diagrams"

    @override
    def item(self, row: Row, id_: str, source: Source) -> Item:
        answer = str(row.get("answer"))
        is_index = answer.isdecimal() and len(answer) == 1
        return super().item({**row, "answer": int(answer)} if is_index else row, id_, source)


BENCHMARKS = (AI2D(),)
