"""TextVQA: questions that need the text in a photograph, each with the answers of ten annotators (arXiv 1904.08920).

Rules: facebookresearch/mmf, commit b0ffc7f, `mmf/utils/m4c_evaluators.py`: VQA accuracy, after a normalization that
also removes commas and question marks and separates "'s". Layout: `TextVQA_0.5.1_val.json` of textvqa.org, with images
in `train_images/` (those of the test split in `test_images/`); on the hub, EvolvingLMMs-Lab/lmms-eval, commit 75571cfe,
`lmms_eval/tasks/textvqa/`.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import ClassVar

from typing_extensions import override

from ..dataset import Row, Source
from ..metrics.vqa import agreement, normalize
from ..types import NOTHING, Item, ParsedAnswer
from .short_answer import ShortAnswerBenchmark


class TextVQA(ShortAnswerBenchmark):
    name = "textvqa"
    title = "TextVQA"
    hub = "lmms-lab-encoder/textvqa"
    files = MappingProxyType({"validation": "TextVQA_[0-9]*_val.json", "test": "TextVQA_[0-9]*_test.json"})
    image_folders: ClassVar[tuple[str, ...]] = ("train_images", "test_images")
    note = "5,000 validation questions; soft accuracy over ten annotators"

    @override
    def image_name(self, row: Row, source: Source) -> str:
        return f"{row['image_id']}.jpg" if row.get("image_id") else ""

    @override
    def official(self, item: Item, reply: str) -> ParsedAnswer:
        return ParsedAnswer(_normalize(reply), "normalized") if reply.strip() else NOTHING

    @override
    def grade(self, item: Item, parsed: ParsedAnswer) -> float:
        return agreement(parsed.value, [_normalize(answer) for answer in item.gold])


def _normalize(answer: str) -> str:
    return normalize(answer.lower().replace(",", "").replace("?", "").replace("'s", " 's"))


BENCHMARKS = (TextVQA(),)
