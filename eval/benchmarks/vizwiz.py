"""VizWiz-VQA: what blind people asked about their photographs, each with ten annotators' answers (arXiv 1802.08218).

Rules: the Python API of the challenge (vizwiz.org, Qing Li), as kept in TRI-ML/vlm-evaluation, commit d9f5896,
`vlm_eval/util/evaluation/vizwiz/eval.py`: VQA accuracy. The reply is normalized, the annotators' answers are compared
as they are published. Its scores for predicted answerability and its caption metrics are not computed here. Layout:
`val.json` of vizwiz.org, with images in `val/`; on the hub, EvolvingLMMs-Lab/lmms-eval, commit 75571cfe,
`lmms_eval/tasks/vizwiz_vqa/`; VLMEvalKit's TSV.
"""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from typing_extensions import override

from ..dataset import Row, Source
from ..metrics.vqa import agreement, normalize
from ..types import NOTHING, Item, ParsedAnswer
from .short_answer import ShortAnswerBenchmark


class VizWiz(ShortAnswerBenchmark):
    name = "vizwiz"
    title = "VizWiz-VQA"
    hub = "lmms-lab-encoder/VizWiz-VQA"
    splits: ClassVar[tuple[str, ...]] = ("val", "test")
    split_names = MappingProxyType({"val": ("validation",)})
    files = MappingProxyType({"val": "val.json", "test": "test.json"})
    image_folders: ClassVar[tuple[str, ...]] = ("val", "test")
    note = "4,319 validation questions; soft accuracy over ten annotators; some questions are unanswerable"

    @override
    def row_id(self, row: Row, number: int, source: Source) -> str:
        """The authors' file has no ids, and one question for each image."""
        name = row.get("image")
        return (
            Path(name).stem if isinstance(name, str) and "answer_type" in row else super().row_id(row, number, source)
        )

    @override
    def groups(self, row: Row, source: Source) -> dict[str, str]:
        return {"answer_type": str(row.get("answer_type") or row.get("category") or "")}

    @override
    def instruction(self, item: Item) -> str:
        return 'Answer "unanswerable" if the picture does not show the answer.'

    @override
    def official(self, item: Item, reply: str) -> ParsedAnswer:
        return ParsedAnswer(normalize(reply), "normalized") if reply.strip() else NOTHING

    @override
    def grade(self, item: Item, parsed: ParsedAnswer) -> float:
        return agreement(parsed.value, item.gold)


BENCHMARKS = (VizWiz(),)
