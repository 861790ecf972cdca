"""ScienceQA: school questions, half of them with an image (arXiv 2209.09513). The data are CC BY-NC-SA 4.0.

Rules: lupantech/ScienceQA, commit 2cbf831.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from typing_extensions import override

from colm_vl.errors import InputError

from ..dataset import Row, Source, open_rows, options_in, read_json
from ..scoring import scienceqa
from ..types import Item, Metric, ParsedAnswer, Rule, Score, micro_average
from .base import COMMON_RULES, Benchmark, first_images, letter_of, seeded_draws

_SUBJECTS = {"natural science": "NAT", "social science": "SOC", "language science": "LAN"}
_WHOLE = "ScienceQA-FULL"
_DRAW_SEED = 42  # the official draws cannot be reproduced by any seed


class ScienceQA(Benchmark):
    name = "scienceqa"
    title = "ScienceQA"
    hub = "derek-thomas/ScienceQA"
    splits: ClassVar[tuple[str, ...]] = ("test", "validation", "train")
    subjects: ClassVar[tuple[str, ...]] = ("IMG",)
    requires_image: ClassVar[bool] = False
    rules: ClassVar[tuple[Rule, ...]] = (*COMMON_RULES, Rule.LLAVA)
    note = "4,241 test questions, 2,017 with an image (--subjects IMG); rule llava is the variant of LLaVA's papers"

    @override
    def load(self, source: Source) -> Iterator[Item]:
        rows = _problems(source.path, source.split) if _is_official(source.path) else _rows(source)
        for item in rows:
            if "IMG" not in source.subjects or "IMG" in item.groups.values():
                yield item

    @override
    def source(self, path: Path | None, split: str, subjects: Sequence[str] = ()) -> Source:
        """lmms-lab/ScienceQA has all questions in one configuration and those with images in another; use the first."""
        return replace(super().source(path, split, subjects), configs=(_WHOLE,) if path else ())

    @override
    def official(self, item: Item, reply: str) -> ParsedAnswer:
        return scienceqa.parse_choice(reply, item.options)

    @override
    def parse(self, item: Item, reply: str, rule: Rule) -> ParsedAnswer:
        if rule is Rule.LLAVA:
            return scienceqa.parse_choice_llava(reply, item.options)
        return super().parse(item, reply, rule)

    @override
    def draw(self, unparsed: Sequence[Item], parsed_answers: Mapping[str, ParsedAnswer]) -> list[str]:
        return seeded_draws(unparsed, _DRAW_SEED)

    @override
    def format_answer(self, item: Item, answer: str) -> str:
        return f"The answer is {answer}."

    @override
    def metrics(self, items: Sequence[Item], scores: Sequence[Score]) -> list[Metric]:
        metrics = [micro_average("AVG", "overall", scores)]
        for name in ("NAT", "SOC", "LAN", "TXT", "IMG", "NO", "G1-6", "G7-12"):
            counted = [score for item, score in zip(items, scores, strict=True) if name in item.groups.values()]
            if counted:
                group = next(group for item in items for group, value in item.groups.items() if value == name)
                metrics.append(micro_average(name, group, counted))
        return metrics


def _rows(source: Source) -> Iterator[Item]:
    """Rows as on the hub, which have no ids and are numbered, or JSON Lines with a pid."""
    columns = ("question|text", "choices|options|A", "answer")
    # Images are always read, because the categories of an item depend on whether it has one.
    for number, row in enumerate(open_rows(source, columns)):
        yield _item(str(row.get("pid", row.get("id", row.get("index", number)))), row, source.images, source.folder)


def _is_official(path: Path | None) -> bool:
    return path is not None and (path.name == "problems.json" or (path / "problems.json").exists())


def _problems(path: Path | None, split: str) -> Iterator[Item]:
    """The official folder: problems.json, pid_splits.json, and images in `<split>/<pid>/image.png`."""
    assert path is not None
    folder = path.parent if path.is_file() else path
    problems, splits = read_json(folder / "problems.json"), read_json(folder / "pid_splits.json")
    key = "val" if split == "validation" else split
    if key not in splits:
        raise InputError(f"{folder / 'pid_splits.json'}: no split {key!r}", hint=f"found {', '.join(splits)}")
    for pid in splits[key]:
        row = dict(problems[pid])
        if row.get("image"):
            row["image_path"] = (
                next(
                    (place for place in (f"{key}/{pid}", f"images/{key}/{pid}") if (folder / place).exists()),
                    f"{key}/{pid}",
                )
                + f"/{row['image']}"
            )
            row["image"] = None
        yield _item(str(pid), row, True, folder)


def _item(key: str, row: Row, images: bool, folder: Path | None = None) -> Item:
    hint = str(row.get("hint") or "")
    question = str(row.get("question") or row.get("text"))
    options = options_in(row)
    found = first_images(row, ("image", "image_path", "images"), folder=folder)
    groups = _groups(
        key, row, has_image=bool(row.get("has_image", bool(found))), has_text=row.get("has_text_context", hint != "")
    )
    return Item(
        key,
        f"Context: {hint}\n{question}" if hint else question,
        (letter_of(row["answer"], options, where=f"question {key}"),),
        "choice",
        options,
        found if images else (),
        groups,
    )


def _groups(key: str, row: Mapping[str, Any], *, has_image: bool, has_text: bool) -> dict[str, str]:
    groups: dict[str, str] = {}
    if row.get("subject"):
        groups["subject"] = _SUBJECTS.get(str(row["subject"]), str(row["subject"]))
    if has_text:
        groups["text"] = "TXT"
    if has_image:
        groups["image"] = "IMG"
    if not has_text and not has_image:
        groups["neither"] = "NO"
    if row.get("grade"):
        grade = str(row["grade"]).removeprefix("grade")
        if not grade.isdecimal():
            raise InputError(
                f"question {key}: grade {row['grade']!r}, expected grade1 to grade12",
                hint="give the file as it was published, or without grades",
            )
        groups["grade"] = "G1-6" if int(grade) <= 6 else "G7-12"
    return groups


BENCHMARKS = (ScienceQA(),)
