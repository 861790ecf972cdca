"""VQA v2: questions about COCO photographs, each with the answers of ten annotators (arXiv 1612.00837).

Rules: GT-Vision-Lab/VQA, commit a013f00, `PythonEvaluationTools/vqaEvaluation/vqaEval.py`. An answer's accuracy is the
mean over the annotators of min(1, others who gave it / 3). The script normalizes answers only if the annotators
disagree; where all ten agree, the reply must be spelled as theirs, with its case. Rule `lenient` always normalizes, as
VLMEvalKit and lmms-eval do. Layout: the questions and annotations of visualqa.org, with images in `val2014/`; on the
hub, EvolvingLMMs-Lab/lmms-eval, commit 75571cfe, `lmms_eval/tasks/vqav2/`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from typing_extensions import override

from colm_vl.errors import InputError

from ..dataset import Row, Source, beside, open_rows, read_json
from ..metrics.vqa import agreement, normalize, spelled
from ..types import NOTHING, Item, ParsedAnswer, whole_reply
from .short_answer import ShortAnswerBenchmark

_NORMALIZED = "normalized"
_SUBSETS = MappingProxyType({"validation": "val2014", "testdev": "test-dev2015", "test": "test2015"})


class VQAv2(ShortAnswerBenchmark):
    name = "vqav2"
    title = "VQA v2"
    hub = "lmms-lab-encoder/VQAv2"
    splits: ClassVar[tuple[str, ...]] = tuple(_SUBSETS)
    unlabelled: ClassVar[frozenset[str]] = frozenset({"testdev", "test"})
    files = MappingProxyType(
        {split: f"v2_OpenEnded_mscoco_{subset}_questions.json" for split, subset in _SUBSETS.items()}
    )
    image_folders: ClassVar[tuple[str, ...]] = ("Images/mscoco",)
    group_columns = MappingProxyType({"answer_type": "answer_type"})
    note = "214,354 validation questions; soft accuracy over ten annotators"

    @override
    def rows(self, source: Source) -> Iterator[Row]:
        if source.path is None or not source.path.name.endswith("_questions.json"):
            yield from super().rows(source)
            return
        annotations = _annotations(source) if source.split not in self.unlabelled else {}
        for row in open_rows(source, ("question", "question_id", "image_id")):
            yield {**row, **annotations.get(row["question_id"], {})}

    @override
    def image_name(self, row: Row, source: Source) -> str:
        if "image_id" not in row:
            return ""
        subset = _SUBSETS[source.split].replace("-dev", "")
        return f"{subset}/COCO_{subset}_{int(row['image_id']):012d}.jpg"

    @override
    def format_answer(self, item: Item, answer: str) -> str:
        """The form in which the annotators' answers are published (visualqa.org/download.html)."""
        return spelled(answer.strip().rstrip("."))

    @override
    def official(self, item: Item, reply: str) -> ParsedAnswer:
        if len({_trimmed(answer) for answer in item.gold}) > 1:
            return _normalized(reply)
        return whole_reply(_trimmed(reply))

    @override
    def lenient(self, item: Item, reply: str) -> ParsedAnswer:
        return _normalized(super().lenient(item, reply).value)

    @override
    def grade(self, item: Item, parsed: ParsedAnswer) -> float:
        form = normalize if parsed.how == _NORMALIZED else _trimmed
        return agreement(parsed.value, [form(answer) for answer in item.gold])


def _annotations(source: Source) -> Mapping[int, Mapping[str, Any]]:
    """By question id. They are in a file of their own, in the folder of the questions or in `Annotations`."""
    name = f"v2_mscoco_{_SUBSETS[source.split]}_annotations.json"
    path = beside(source.folder or Path(), name, "Annotations")
    if not path.exists():
        raise InputError(f"{source.label}: no {name} beside it", hint="put the annotations into the same folder")
    return {row["question_id"]: row for row in read_json(path)["annotations"]}


def _trimmed(answer: str) -> str:
    return answer.replace("\n", " ").replace("\t", " ").strip()


def _normalized(reply: str) -> ParsedAnswer:
    return ParsedAnswer(normalize(reply), _NORMALIZED) if reply.strip() else NOTHING


BENCHMARKS = (VQAv2(),)
