"""ChartQA: questions about charts, written by people or generated (arXiv 2203.10244).

Rules: section 5.1 of the paper, as google-research/pix2struct and VLMEvalKit implement it: a number within 5 % of the
answer is correct, another answer must be the same text. Layout: vis-nlp/ChartQA, commit 3dab8e8, `test_human.json` and
`test_augmented.json` in `ChartQA Dataset/test/`, with images in `png/`; on the hub, EvolvingLMMs-Lab/lmms-eval, commit
75571cfe, `lmms_eval/tasks/chartqa/`, and HuggingFaceM4/ChartQA; VLMEvalKit's TSV.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import ClassVar

from typing_extensions import override

from ..dataset import Row, Source
from ..metrics.base import Gold
from ..metrics.numeric import Numeric
from ..types import Item, ParsedAnswer
from .short_answer import ShortAnswerBenchmark

_PARTS = ("human", "augmented")


class ChartQA(ShortAnswerBenchmark):
    name = "chartqa"
    title = "ChartQA"
    hub = "lmms-lab-encoder/ChartQA"
    splits: ClassVar[tuple[str, ...]] = ("test", "val")
    split_names = MappingProxyType({"val": ("validation",)})
    unlabelled: ClassVar[frozenset[str]] = frozenset()
    files = MappingProxyType({split: f"{split}_[ah]*.json" for split in splits})
    image_folders: ClassVar[tuple[str, ...]] = ("png",)
    note = "2,500 test questions, half of them written by people; 5 % tolerance for numbers"

    @override
    def row_id(self, row: Row, number: int, source: Source) -> str:
        """The authors' files have no ids, and the hub has none."""
        return f"{_part(row, source)}-{number}" if "imgname" in row else super().row_id(row, number, source)

    @override
    def groups(self, row: Row, source: Source) -> dict[str, str]:
        return {"part": _part(row, source)}

    @override
    def image_name(self, row: Row, source: Source) -> str:
        return str(row.get("imgname") or "")

    @override
    def is_correct(self, item: Item, parsed: ParsedAnswer) -> bool:
        return Numeric().grade(parsed.value, Gold(item.gold)) == 1


def _part(row: Row, source: Source) -> str:
    """`human` or `augmented`, from a column or the file's name; "" if neither says it."""
    if row.get("human_or_machine") is not None:
        return _PARTS[int(row["human_or_machine"])]
    named = f"{row.get('type')} {row.get('split')} {source.path.name if source.path else ''}"
    return next((part for part in _PARTS if part in named), "")


BENCHMARKS = (ChartQA(),)
