"""MME: yes or no, two questions a picture, in fourteen categories (arXiv 2306.13394).

Rules: BradyFU/Awesome-Multimodal-Large-Language-Models, branch Evaluation, commit dd29509, `calculation.py` in
`tools/eval_tool.zip`. A category's score is its accuracy plus the share of pictures of which both questions are right
(acc+), in percent: 200 at most. Columns: the hub's card; VLMEvalKit's TSV has `index` and `image_path` in addition.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import ClassVar

from typing_extensions import override

from ..data import Row, Source, open_rows
from ..items import Figure, Item, Reading, Score
from ..scoring import matching
from .base import Benchmark, first_pictures

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
        # Pictures are read in any case: which two questions belong together may be told by nothing else.
        for number, row in enumerate(open_rows(source, self.required)):
            yield _item(row, number, source)

    @override
    def instruction(self, item: Item) -> str:
        return "" if "yes or no" in item.question.lower() else "Please answer yes or no."

    @override
    def official(self, item: Item, reply: str) -> Reading:
        return matching.read_yes_no(reply)

    @override
    def lenient(self, item: Item, reply: str) -> Reading:
        """The only one of the two words that occurs, wherever it stands."""
        found = {"yes", "no"} & set(reply.lower().translate(matching.PUNCTUATION).split())
        return Reading(found.pop(), "word") if len(found) == 1 else self.official(item, reply)

    @override
    def figures(self, items: Sequence[Item], scores: Sequence[Score]) -> list[Figure]:
        pairs = sorted(zip(items, scores, strict=True), key=lambda pair: pair[0].groups["category"])
        categories = [
            _category(name, list(group)) for name, group in groupby(pairs, key=lambda pair: pair[0].groups["category"])
        ]
        sums = [
            _sum(name, "part", [one for one in categories if one.name in parts])
            for name, parts in (("Perception", PERCEPTION), ("Cognition", COGNITION))
        ]
        return [_sum("Overall", "overall", categories), *(one for one in sums if one.asked), *categories]


def _category(name: str, pairs: Sequence[tuple[Item, Score]]) -> Figure:
    """A picture of which only one question was answered, as `--partial` allows, has not both right."""
    right_of = Counter(item.unit for item, score in pairs if score.right)
    both = sum(count == 2 for count in right_of.values())
    right = sum(score.right for _, score in pairs)
    points = 100 * right / len(pairs) + 100 * both / len({item.unit for item, _ in pairs})
    return Figure(name, "category", right, len(pairs), points)


def _sum(name: str, group: str, figures: Sequence[Figure]) -> Figure:
    points = sum(figure.points or 0.0 for figure in figures)
    return Figure(name, group, sum(one.right for one in figures), sum(one.asked for one in figures), points)


def _item(row: Row, number: int, source: Source) -> Item:
    pictures = first_pictures(row, ("image", "image_path", "images"), folder=source.folder)
    category = str(row["category"])
    # On the hub both questions about a picture carry its name as their id, so that it cannot be theirs alone.
    key = str(row.get("image_path") or row.get("question_id") or _digest(pictures) or number // 2)
    return Item(
        id=str(row.get("index", number)),
        question=str(row["question"]),
        gold=(str(row["answer"]).strip().lower(),),
        kind="yes_no",
        pictures=pictures if source.pictures else (),
        groups={"category": category},
        unit=f"{category}/{key}",
    )


def _digest(pictures: Sequence[bytes | Path]) -> str:
    first = pictures[0] if pictures else b""
    return hashlib.sha256(first).hexdigest() if isinstance(first, bytes) and first else str(first or "")


BENCHMARKS = (MME(),)
