"""HallusionBench: yes or no about figures, originals and edited ones (arXiv 2310.14566).

Rules: tianyi-lab/HallusionBench, commit 744007c, `utils.py`: accuracy over all questions (aAcc), over figures whose
questions are all correct (fAcc), and over questions that are correct for all their figures (qAcc). The authors ask
GPT-4 whether a reply agrees with the answer, and count an uncertain reply to a question without a figure as correct.
Here, replies are parsed as in open-compass/VLMEvalKit, commit e8e78f05, `vlmeval/dataset/utils/yorn.py`: yes or no as a
word, without the other one. VLMEvalKit combines figures and questions of VD and VS whose sets have the same number.
Layout: `HallusionBench.json` with images in `hallusion_bench/`; on the hub, the same columns in two splits
(EvolvingLMMs-Lab/lmms-eval, commit 75571cfe, `lmms_eval/tasks/hallusion_bench/`); VLMEvalKit's TSV, whose `index` ends
with the numbers of set, figure and question.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from typing_extensions import override

from colm_vl.errors import InputError

from ..dataset import Row, Source, beside, official_files, open_rows
from ..metrics.vqa import without_marks
from ..scoring import matching
from ..types import UNPARSED, Item, Metric, ParsedAnswer, Score, micro_average
from .base import Benchmark, by_groups, first_images

_WITH_IMAGE, _ALL = "image", "all"
_FILE = "HallusionBench.json"
_IMAGES = ("image", "image_path", "images")
_GOLD = MappingProxyType({"0": "no", "1": "yes", "no": "no", "yes": "yes"})


class HallusionBench(Benchmark):
    name = "hallusion_bench"
    title = "HallusionBench"
    hub = "lmms-lab-encoder/HallusionBench"
    splits: ClassVar[tuple[str, ...]] = (_WITH_IMAGE, _ALL)
    requires_image = False
    note = "951 questions with figures; split `all`: 1,129; aAcc, fAcc and qAcc, without the authors' judge"

    @override
    def load(self, source: Source) -> Iterator[Item]:
        for one in official_files(source, dict.fromkeys(self.splits, _FILE)):
            for part in _parts(one):
                for row in open_rows(part, ("question", "answer|gt_answer", "category"), image_columns=_IMAGES):
                    if source.split == _ALL or _has_figure(row):
                        yield _item(row, part)

    @override
    def instruction(self, item: Item) -> str:
        return "Answer yes or no."

    @override
    def official(self, item: Item, reply: str) -> ParsedAnswer:
        return matching.lone_yes_no(without_marks(reply))

    @override
    def lenient(self, item: Item, reply: str) -> ParsedAnswer:
        parsed = matching.lone_yes_no(reply.translate(matching.PUNCTUATION))
        return self.official(item, reply) if parsed.how == UNPARSED else parsed

    @override
    def metrics(self, items: Sequence[Item], scores: Sequence[Score]) -> list[Metric]:
        pairs = list(zip(items, scores, strict=True))
        consistent = [_consistency(name, pairs) for name in ("fAcc", "qAcc")]
        for category in dict.fromkeys(item.groups["category"] for item in items):
            of = [pair for pair in pairs if pair[0].groups["category"] == category]
            found = [_consistency(name, of) for name in ("fAcc", "qAcc")]
            consistent += [replace(one, name=f"{one.name}, {category}") for one in found]
        return [micro_average("Overall", "overall", scores), *consistent, *by_groups(items, scores)]


def _consistency(name: str, pairs: Sequence[tuple[Item, Score]]) -> Metric:
    """Over figures or questions, each of them correct if all of its answers are. A question without a figure does not
    count as a figure."""
    units: dict[tuple[str, str], bool] = {}
    for item, score in pairs:
        figure, question = item.id.split("_")[-2:]
        if name == "fAcc" and item.groups["category"] == "VS" and figure == "0":
            continue
        key = (item.unit, figure if name == "fAcc" else question)
        units[key] = units.get(key, True) and score.correct
    return Metric(name, name, tuple(map(float, units.values())))


def _parts(source: Source) -> list[Source]:
    """The hub has the questions without a figure in a split of their own."""
    if source.split == _WITH_IMAGE or (source.path is not None and source.path.is_file()):
        return [source]
    return [replace(source, split=split) for split in (_WITH_IMAGE, "non_image")]


def _has_figure(row: Row) -> bool:
    return str(row.get("visual_input", "1")) != "0"


def _item(row: Row, source: Source) -> Item:
    kind = str(row.get("subcategory") or row.get("l2-category") or "")
    parts = (row["category"], kind, row.get("set_id"), row.get("figure_id"), row.get("question_id"))
    id_ = str(row.get("index") or "_".join(map(str, parts)))
    if id_.count("_") < 3 or not all(number.isdecimal() for number in id_.split("_")[-3:]):
        raise InputError(
            f"{source.label}: question {id_!r} does not say its set, figure and question",
            hint="give the file as published",
        )
    answer = str(row.get("gt_answer", row.get("answer"))).strip().lower()
    if answer not in _GOLD:
        raise InputError(f"{source.label}: question {id_} has answer {answer!r}", hint="expected 0, 1, yes or no")
    images = _images(row, source) if source.images and _has_figure(row) else ()
    if source.images and _has_figure(row) and not images:
        raise InputError(f"{source.label}: question {id_} has no image", hint="give the file with its image column")
    return Item(
        id=id_,
        question=str(row["question"]),
        gold=(_GOLD[answer],),
        kind="yes_no",
        images=images,
        groups={"category": str(row["category"]), "subcategory": kind},
        unit=f"{row['category']}_{kind}_{id_.split('_')[-3]}",
    )


def _images(row: Row, source: Source) -> tuple[bytes | Path, ...]:
    found = first_images(row, _IMAGES, folder=source.folder)
    name = str(row.get("filename") or "").removeprefix("./").removeprefix("hallusion_bench/")
    if found or not name or source.folder is None:
        return found
    return (beside(source.folder, name, "hallusion_bench"),)


BENCHMARKS = (HallusionBench(),)
