"""MMMU: college questions of 30 subjects with one to seven images each (arXiv 2311.16502).

Rules: MMMU-Benchmark/MMMU, commit bb0b95a, `eval/`. Questions and options refer to images as `<image 1>`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from typing_extensions import override

from colm_vl.errors import InputError

from ..dataset import Row, Source, images_in, listed, open_rows, options_in, read_json
from ..scoring import lenient, mmmu
from ..types import Item, Kind, Metric, ParsedAnswer, Score, micro_average
from .base import Benchmark, letter_of, seeded_draws

DISCIPLINES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Art and Design": ("Art", "Art_Theory", "Design", "Music"),
        "Business": ("Accounting", "Economics", "Finance", "Manage", "Marketing"),
        "Science": ("Biology", "Chemistry", "Geography", "Math", "Physics"),
        "Health and Medicine": (
            "Basic_Medical_Science",
            "Clinical_Medicine",
            "Diagnostics_and_Laboratory_Medicine",
            "Pharmacy",
            "Public_Health",
        ),
        "Humanities and Social Science": ("History", "Literature", "Sociology", "Psychology"),
        "Tech and Engineering": (
            "Agriculture",
            "Architecture_and_Engineering",
            "Computer_Science",
            "Electronics",
            "Energy_and_Power",
            "Materials",
            "Mechanical_Engineering",
        ),
    }
)
SUBJECTS = tuple(sorted(subject for subjects in DISCIPLINES.values() for subject in subjects))
PICTURES = tuple(f"image_{number}" for number in range(1, 8))

_COLUMNS = ("id", "question", "answer")
_KIND = "options|A|question_type"  # an open question in a TSV has none of these


class MMMU(Benchmark):
    name = "mmmu"
    title = "MMMU"
    hub = "MMMU/MMMU"
    splits: ClassVar[tuple[str, ...]] = ("validation", "dev")
    subjects: ClassVar[tuple[str, ...]] = SUBJECTS
    note = "900 validation questions: 847 multiple choice, 53 open; the test split's answers are not public"

    @override
    def load(self, source: Source) -> Iterator[Item]:
        for row in open_rows(source, _COLUMNS, named=(_KIND,), image_columns=(*PICTURES, "image", "images")):
            if str(row.get("split", source.split)) != source.split:  # VLMEvalKit has both splits in one file
                continue
            item = _item(row, source)
            if not source.subjects or item.groups["subject"] in source.subjects:
                yield item

    @override
    def source(self, path: Path | None, split: str, subjects: Sequence[str] = ()) -> Source:
        """On the hub and in a folder downloaded from it, subjects are configurations."""
        return replace(super().source(path, split, subjects), configs=tuple(subjects) or SUBJECTS)

    @override
    def gold(self, path: Path, split: str) -> list[Item]:
        """Also accepts the official answer file: id → question type and ground truth."""
        if path.suffix == ".json":
            answers = read_json(path)
            if isinstance(answers, dict):
                return [_gold(key, entry, path) for key, entry in answers.items()]
        there = tuple(subject for subject in SUBJECTS if (path / subject).is_dir())
        return list(self.load(replace(self.source(path, split), configs=there, images=False)))

    @override
    def instruction(self, item: Item) -> str:
        return "" if item.kind == "choice" else "Answer with a single word, number or phrase."

    @override
    def official(self, item: Item, reply: str) -> ParsedAnswer:
        return mmmu.parse_choice(reply, item.options) if item.kind == "choice" else mmmu.parse_open(reply)

    @override
    def lenient(self, item: Item, reply: str) -> ParsedAnswer:
        """For open questions, the official candidates plus the answer that the reply settles on."""
        if item.kind == "choice":
            return super().lenient(item, reply)
        official, better = mmmu.parse_open(reply), lenient.parse_text(reply)
        extra = tuple(mmmu.normalize(better.value)) if better.value else ()
        return ParsedAnswer(
            better.value or official.value, better.how if extra else official.how, official.alternatives + extra
        )

    @override
    def is_correct(self, item: Item, parsed: ParsedAnswer) -> bool:
        return super().is_correct(item, parsed) if item.kind == "choice" else mmmu.is_correct_open(parsed, item.gold)

    @override
    def order(self, items: Sequence[Item]) -> list[Item]:
        return sorted(items, key=lambda item: SUBJECTS.index(item.groups["subject"]))

    @override
    def draw(self, unparsed: Sequence[Item], parsed_answers: Mapping[str, ParsedAnswer]) -> list[str]:
        return seeded_draws(unparsed, mmmu.DRAW_SEED)

    @override
    def metrics(self, items: Sequence[Item], scores: Sequence[Score]) -> list[Metric]:
        return [micro_average("Overall", "overall", scores), *discipline_metrics(items, scores)]


def discipline_metrics(items: Sequence[Item], scores: Sequence[Score]) -> list[Metric]:
    """Each discipline followed by its subjects, as in the official table."""
    by_subject: dict[str, list[Score]] = {}
    for item, score in zip(items, scores, strict=True):
        by_subject.setdefault(item.groups["subject"], []).append(score)
    metrics: list[Metric] = []
    for discipline, subjects in DISCIPLINES.items():
        asked = [subject for subject in subjects if subject in by_subject]
        if asked:
            metrics.append(
                micro_average(discipline, "discipline", [s for subject in asked for s in by_subject[subject]])
            )
            metrics += [micro_average(subject, "subject", by_subject[subject]) for subject in asked]
    return metrics


def groups_of(subject: str, *, where: str) -> dict[str, str]:
    for discipline, subjects in DISCIPLINES.items():
        if subject in subjects:
            return {"discipline": discipline, "subject": subject}
    raise InputError(f"{where}: unknown subject {subject!r}", hint=f"one of: {', '.join(SUBJECTS)}")


def _subject(key: str) -> str:
    """`Art_Theory` for `validation_Art_Theory_3`."""
    return "_".join(key.split("_")[1:-1])


def _item(row: Row, source: Source) -> Item:
    key = str(row["id"])
    groups = groups_of(_subject(key), where=key)
    pictures = images_in(row, (*PICTURES, "image", "images"), folder=source.folder) if source.images else ()
    options = options_in(row)
    if row.get("question_type", "multiple-choice" if options else "open") == "open":
        gold = tuple(str(answer) for answer in listed(row["answer"]))
        return Item(key, str(row["question"]), gold, "open", (), pictures, groups)
    answer = letter_of(row["answer"], options, where=key)
    return Item(key, str(row["question"]), (answer,), "choice", options, pictures, groups)


def _gold(key: str, entry: Any, path: Path) -> Item:
    if not isinstance(entry, dict) or not {"question_type", "ground_truth"} <= set(entry):
        raise InputError(f"{path}: {key}: expected question_type and ground_truth", hint="the official answer file")
    truth = entry["ground_truth"]
    gold = tuple(map(str, truth)) if isinstance(truth, list) else (str(truth),)
    kind: Kind = "choice" if entry["question_type"] == "multiple-choice" else "open"
    return Item(key, "", gold, kind, groups=groups_of(_subject(key), where=f"{path}: {key}"))


BENCHMARKS = (MMMU(),)

__all__ = ["BENCHMARKS", "DISCIPLINES", "MMMU", "PICTURES", "SUBJECTS", "discipline_metrics", "groups_of"]
