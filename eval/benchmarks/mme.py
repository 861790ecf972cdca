"""MME: yes or no, two questions a picture, in fourteen categories (arXiv 2306.13394).

Rules: BradyFU/Awesome-Multimodal-Large-Language-Models, branch Evaluation, commit dd29509, `calculation.py` in
`tools/eval_tool.zip`. A category's score is its accuracy plus the share of images whose two questions are both correct
(acc+), in percent: 200 at most. Columns: the hub's card; VLMEvalKit's TSV has `index` and `image_path` in addition.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import ClassVar

from typing_extensions import override

from ..dataset import Row, Source, open_rows
from ..scoring import matching
from ..types import UNPARSED, Item, Metric, ParsedAnswer, Score, micro_average
from .base import Benchmark, first_images

PERCEPTION = (
    "existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR",
)  # fmt: skip
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")


class MME(Benchmark):
    name = "mme"
    title = "MME"
    hub = "lmms-lab-encoder/MME"
    note = "2,374 yes-or-no questions; points: accuracy plus acc+ of each category, 2,800 in all"
    required: ClassVar[tuple[str, ...]] = ("question", "answer", "category")

    @override
    def load(self, source: Source) -> Iterator[Item]:
        # Images are always read: they may be the only way to tell which two questions belong together.
        for number, row in enumerate(open_rows(source, self.required)):
            yield _item(row, number, source)

    @override
    def instruction(self, item: Item) -> str:
        return "" if "yes or no" in item.question.lower() else "Please answer yes or no."

    @override
    def official(self, item: Item, reply: str) -> ParsedAnswer:
        return matching.parse_yes_no(reply)

    @override
    def lenient(self, item: Item, reply: str) -> ParsedAnswer:
        """Yes or no, wherever it occurs, if the other word does not."""
        parsed = matching.lone_yes_no(reply.translate(matching.PUNCTUATION))
        return self.official(item, reply) if parsed.how == UNPARSED else parsed

    @override
    def metrics(self, items: Sequence[Item], scores: Sequence[Score]) -> list[Metric]:
        pairs = sorted(zip(items, scores, strict=True), key=lambda pair: pair[0].groups["category"])
        categories = [
            _category(name, list(group)) for name, group in groupby(pairs, key=lambda pair: pair[0].groups["category"])
        ]
        sums = [
            _sum(name, "part", [one for one in categories if one.name in parts])
            for name, parts in (("Perception", PERCEPTION), ("Cognition", COGNITION))
        ]
        return [_sum("Overall", "overall", categories), *(one for one in sums if one.total), *categories]


def _category(name: str, pairs: Sequence[tuple[Item, Score]]) -> Metric:
    """With `--partial`, an image with an unanswered question does not count for acc+."""
    correct_of = Counter(item.unit for item, score in pairs if score.correct)
    both = sum(count == 2 for count in correct_of.values())
    whole = micro_average(name, "category", [score for _, score in pairs])
    return replace(whole, points=100 * whole.accuracy + 100 * both / len({item.unit for item, _ in pairs}))


def _sum(name: str, group: str, metrics: Sequence[Metric]) -> Metric:
    points = sum(metric.points or 0.0 for metric in metrics)
    return Metric(name, group, tuple(grade for one in metrics for grade in one.grades), points)


def _item(row: Row, number: int, source: Source) -> Item:
    pictures = first_images(row, ("image", "image_path", "images"), folder=source.folder)
    category = str(row["category"])
    # On the hub, both questions about an image have its name as their id, so it is not unique.
    key = str(row.get("image_path") or row.get("question_id") or _digest(pictures) or number // 2)
    return Item(
        id=str(row.get("index", number)),
        question=str(row["question"]),
        gold=(str(row["answer"]).strip().lower(),),
        kind="yes_no",
        images=pictures if source.images else (),
        groups={"category": category},
        unit=f"{category}/{key}",
    )


def _digest(images: Sequence[bytes | Path]) -> str:
    first = images[0] if images else b""
    return hashlib.sha256(first).hexdigest() if isinstance(first, bytes) and first else str(first or "")


BENCHMARKS = (MME(),)
