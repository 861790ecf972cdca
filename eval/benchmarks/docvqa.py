"""DocVQA and InfographicVQA: questions about scanned documents and infographics (arXiv 2007.00398; 2104.12756).

Rules: average normalized Levenshtein similarity, 0 below 0.5, as in the papers. A question counts for all its types.
Layout: the JSON of rrc.cvc.uab.es (`val_v1.0_withQT.json`, `infographicsVQA_val_v1.0_withQT.json`), with images in
`spdocvqa_images/` or `documents/`, and `infographicsvqa_images/`; on the hub, lmms-lab/DocVQA (EvolvingLMMs-Lab/
lmms-eval, commit 75571cfe, `lmms_eval/tasks/docvqa/` and `infovqa/`); VLMEvalKit's TSV. The answers of the test split
are not public.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import ClassVar

from typing_extensions import override

from ..dataset import Row, Source
from ..metrics.anls import Anls
from ..metrics.base import Gold
from ..types import Item, ParsedAnswer
from .short_answer import ShortAnswerBenchmark


class DocVQA(ShortAnswerBenchmark):
    name = "docvqa"
    title = "DocVQA"
    hub = "lmms-lab-encoder/DocVQA"
    config = "DocVQA"
    files = MappingProxyType({"validation": "val_v*_withQT.json", "test": "test_v*.json"})
    image_folders: ClassVar[tuple[str, ...]] = ("documents", "spdocvqa_images")
    group_columns = MappingProxyType({"question_type": "question_types"})
    multiple: ClassVar[frozenset[str]] = frozenset({"question_type", "answer_type", "evidence", "operation"})
    note = "5,349 validation questions; ANLS"

    @override
    def grade(self, item: Item, parsed: ParsedAnswer) -> float:
        return Anls().grade(parsed.value, Gold(item.gold))


class InfographicVQA(DocVQA):
    name = "infographicvqa"
    title = "InfographicVQA"
    config = "InfographicVQA"
    files = MappingProxyType(
        {"validation": "infographicsVQA_val_v*_withQT.json", "test": "infographicsVQA_test_v*.json"}
    )
    image_folders: ClassVar[tuple[str, ...]] = ("infographicsvqa_images",)
    group_columns = MappingProxyType(
        {"answer_type": "answer_type", "evidence": "evidence", "operation": "operation/reasoning"}
    )
    note = "2,801 validation questions; ANLS"

    @override
    def image_name(self, row: Row, source: Source) -> str:
        return str(row.get("image_local_name") or "")


BENCHMARKS = (DocVQA(), InfographicVQA())
