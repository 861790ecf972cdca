"""GQA: compositional questions about scenes, with one answer each (arXiv 1902.09506).

Rules: `eval.py` of gqadataset.org: the reply must equal the answer, which is lower case. Questions of the structural
type `query` are open, the others binary. Consistency, validity, plausibility, grounding and distribution need the scene
graphs and all questions, and are not computed here. Layout: `testdev_balanced_questions.json`, with images in
`images/`; on the hub, questions and images in two configurations (EvolvingLMMs-Lab/lmms-eval, commit 75571cfe,
`lmms_eval/tasks/gqa/`); VLMEvalKit's TSV.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import MappingProxyType
from typing import ClassVar

from typing_extensions import override

from ..dataset import Row, Source, open_rows
from ..types import Item, ParsedAnswer
from .short_answer import ShortAnswerBenchmark

_IMAGES = "testdev_balanced_images"


class GQA(ShortAnswerBenchmark):
    name = "gqa"
    title = "GQA"
    hub = "lmms-lab-encoder/GQA"
    config = "testdev_balanced_instructions"
    splits: ClassVar[tuple[str, ...]] = ("testdev",)
    files = MappingProxyType({"testdev": "testdev_balanced_questions.json"})
    image_folders: ClassVar[tuple[str, ...]] = ("images",)
    note = "12,578 balanced testdev questions; the reply must equal the answer"

    @override
    def rows(self, source: Source) -> Iterator[Row]:
        images = self._images(source) if source.images else {}
        for row in super().rows(source):
            yield {**row, "image": images[row["imageId"]]} if row.get("imageId") in images else row

    def _images(self, source: Source) -> dict[str, object]:
        """By id. On the hub, and in a copy of it, they are in a configuration of their own."""
        if source.path is not None and not (source.path / _IMAGES).is_dir():
            return {}
        return {row["id"]: row["image"] for row in open_rows(replace(source, configs=(_IMAGES,)), ("id", "image"))}

    @override
    def groups(self, row: Row, source: Source) -> dict[str, str]:
        types = row.get("types") or {}
        if not types:
            return {}
        kind = "open" if types["structural"] == "query" else "binary"
        return {"kind": kind, "structural": types["structural"], "semantic": types["semantic"]}

    @override
    def image_name(self, row: Row, source: Source) -> str:
        return f"{row['imageId']}.jpg" if row.get("imageId") else ""

    @override
    def format_answer(self, item: Item, answer: str) -> str:
        """As the published answers: in lower case and without a full stop."""
        return answer.strip().rstrip(".").lower()

    @override
    def lenient(self, item: Item, reply: str) -> ParsedAnswer:
        parsed = super().lenient(item, reply)
        return replace(parsed, value=self.format_answer(item, parsed.value))


BENCHMARKS = (GQA(),)
