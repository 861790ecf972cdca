"""POPE: is an object in the photograph? Absent objects are random, popular or adversarial (arXiv 2305.10355).

Rules: AoiDragon/POPE, commit 08d957b, `evaluate.py`: "no" if the first sentence of the reply has the word no or not,
else "yes". Accuracy, precision, recall and F1 of "yes", and the share of "yes" among the replies, for each of the three
parts. A reply without text, which the script counts as "yes", is wrong here. Layout: `coco_pope_random.json` and two
more, in JSON Lines, with the images of COCO in `val2014/`; on the hub, EvolvingLMMs-Lab/lmms-eval, commit 75571cfe,
`lmms_eval/tasks/pope/`; VLMEvalKit's TSV, where a question can belong to several parts: it counts for each of them,
and once overall.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from typing_extensions import override

from ..dataset import Row, Source, beside, json_lines, official_files, open_rows
from ..scoring import matching
from ..types import NOTHING, UNPARSED, Item, Metric, ParsedAnswer, Score, micro_average
from .base import SEPARATOR, Benchmark, first_images

_FILES = "*_pope_*.json"
_IMAGES = ("image", "image_path", "images")
_NO = frozenset({"No", "not", "no"})


class POPE(Benchmark):
    name = "pope"
    title = "POPE"
    hub = "lmms-lab-encoder/POPE"
    multiple: ClassVar[frozenset[str]] = frozenset({"part"})
    note = "9,000 yes-or-no questions about objects; also precision, recall, F1 and the share of yes"

    @override
    def load(self, source: Source) -> Iterator[Item]:
        for one in official_files(source, {"test": _FILES}):
            for number, row in enumerate(_rows(one)):
                yield _item(row, number, one)

    @override
    def instruction(self, item: Item) -> str:
        return "Answer yes or no."

    @override
    def official(self, item: Item, reply: str) -> ParsedAnswer:
        if not reply.strip():
            return NOTHING
        words = reply.partition(".")[0].replace(",", "").split(" ")
        return ParsedAnswer("yes", "without no") if _NO.isdisjoint(words) else ParsedAnswer("no", "no or not")

    @override
    def lenient(self, item: Item, reply: str) -> ParsedAnswer:
        parsed = matching.lone_yes_no(reply.translate(matching.PUNCTUATION))
        return self.official(item, reply) if parsed.how == UNPARSED else parsed

    @override
    def metrics(self, items: Sequence[Item], scores: Sequence[Score]) -> list[Metric]:
        answered = list(zip(items, scores, strict=True))
        parts: dict[str, list[tuple[Item, Score]]] = {}
        for item, score in answered:
            for part in item.groups["part"].split(SEPARATOR):
                parts.setdefault(part, []).append((item, score))
        overall = micro_average("Overall", "overall", scores)
        return [overall, *_rates("all", answered), *(one for part, of in parts.items() for one in _part(part, of))]


def _part(name: str, answered: Sequence[tuple[Item, Score]]) -> list[Metric]:
    return [micro_average(name, "part", [score for _, score in answered]), *_rates(name, answered)]


def _rates(part: str, answered: Sequence[tuple[Item, Score]]) -> list[Metric]:
    """In percent. The answer "yes" is the positive one."""
    positive = sum(item.gold == ("yes",) for item, _ in answered)
    claimed = sum(score.value == "yes" for _, score in answered)
    found = sum(item.gold == ("yes",) and score.value == "yes" for item, score in answered)
    precision, recall = _ratio(found, claimed), _ratio(found, positive)
    rates = {
        "precision": precision,
        "recall": recall,
        "F1": _ratio(2 * precision * recall, precision + recall),
        "yes ratio": claimed / len(answered),
    }
    whole = micro_average("", "", [score for _, score in answered])
    return [replace(whole, name=f"{name}, {part}", group=name, points=100 * rate) for name, rate in rates.items()]


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _rows(source: Source) -> Iterator[Row]:
    """The authors' files are JSON Lines in spite of their names, and each is one part."""
    if source.path is None or not source.path.match(_FILES):
        return open_rows(source, ("question", "answer", "category"), image_columns=_IMAGES)
    part = source.path.stem.rpartition("_")[2]
    return (
        {"category": part, **row, "question": row["text"], "answer": row["label"], "id": f"{part}-{row['question_id']}"}
        for row in json_lines(source.path)
    )


def _item(row: Row, number: int, source: Source) -> Item:
    return Item(
        id=str(row.get("id", row.get("index", number))),
        question=str(row["question"]),
        gold=(str(row["answer"]).strip().lower(),),
        kind="yes_no",
        images=_images(row, source) if source.images else (),
        groups={"part": SEPARATOR.join(str(row["category"]).split(","))},
    )


def _images(row: Row, source: Source) -> tuple[bytes | Path, ...]:
    found = first_images(row, _IMAGES, folder=source.folder)
    if source.folder and found and isinstance(found[0], Path) and not found[0].exists():
        return (beside(source.folder, found[0].name, "val2014"),)
    return found


BENCHMARKS = (POPE(),)
