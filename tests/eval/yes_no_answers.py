"""Small data sets in the published formats of POPE and HallusionBench, with invented questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.eval.published import base64_png, json_lines, parquet, picture, tsv
from tests.eval.short_answers import save_image, save_json

PARTS = ("random", "popular", "adversarial")


def pope(folder: Path) -> Path:
    rows = [
        {
            "id": str(number),
            "question_id": str(number // 3 + 1),
            "question": "Is there a dog in the image?",
            "answer": "no" if number % 4 else "yes",
            "image_source": "COCO_val2014_000000000042",
            "image": picture(number),
            "category": PARTS[number % 3],
        }
        for number in range(6)
    ]
    parquet(folder / "data" / "test-00000-of-00001.parquet", rows)
    return folder


def pope_official(folder: Path, labels: Mapping[str, Sequence[str]]) -> Path:
    for part, answers in labels.items():
        rows = [
            {"question_id": number, "image": "COCO_val2014_000000000042.jpg", "text": "A dog?", "label": label}
            for number, label in enumerate(answers, 1)
        ]
        folder.mkdir(exist_ok=True)
        json_lines(folder / f"coco_pope_{part}.json", rows)
    save_image(folder / "val2014" / "COCO_val2014_000000000042.jpg")
    return folder


def pope_tsv(folder: Path) -> Path:
    rows = [
        {"index": "0", "question": "A dog?", "answer": "Yes", "category": ",".join(PARTS), "image": base64_png()},
        {"index": "1", "question": "A cat?", "answer": "No", "category": "popular", "image": "0"},
    ]
    tsv(folder / "POPE.tsv", rows)
    return folder / "POPE.tsv"


def hallusion_row(category: str, set_: int, figure: int, question: int, answer: int) -> dict[str, Any]:
    without = category == "VS" and not figure
    return {
        "category": category,
        "subcategory": "chart",
        "visual_input": "0" if without else "2" if figure else "1",
        "set_id": str(set_),
        "figure_id": str(figure),
        "sample_note": "x",
        "question_id": str(question),
        "question": "Is it larger?",
        "gt_answer_details": "It is.",
        "gt_answer": str(answer),
        "filename": None if without else f"./{category}/chart/{set_}_{figure}.png",
    }


def hallusion_rows() -> list[dict[str, Any]]:
    """A set of two figures with two questions each, and one of a figure and a question without it."""
    asked = [(0, 0, 1), (0, 1, 0), (1, 0, 0), (1, 1, 1)]
    rows = [hallusion_row("VD", 0, figure, question, answer) for figure, question, answer in asked]
    return [*rows, hallusion_row("VS", 0, 0, 0, 1), hallusion_row("VS", 0, 1, 0, 0)]


def hallusion_bench(folder: Path) -> Path:
    rows = [{**row, "image": picture(number)} for number, row in enumerate(hallusion_rows())]
    split = {
        "image": [row for row in rows if row["filename"]],
        "non_image": [row for row in rows if not row["filename"]],
    }
    for name, found in split.items():
        bare = found if name == "image" else [{**row, "image": None} for row in found]
        parquet(folder / "data" / f"{name}-00000-of-00001.parquet", bare)
    return folder


def hallusion_bench_official(folder: Path) -> Path:
    rows = hallusion_rows()
    save_json(folder / "HallusionBench.json", rows)
    for row in rows:
        if row["filename"]:
            save_image(folder / "hallusion_bench" / row["filename"])
    return folder


def hallusion_bench_tsv(folder: Path) -> Path:
    rows = [
        {
            "index": "_".join(str(row[name]) for name in ("category", "subcategory", "visual_input", "set_id"))
            + f"_{row['figure_id']}_{row['question_id']}",
            "category": row["category"],
            "l2-category": row["subcategory"],
            "question": row["question"],
            "answer": ("No", "Yes")[int(row["gt_answer"])],
            "image": base64_png(),
        }
        for row in hallusion_rows()
        if row["filename"]
    ]
    tsv(folder / "HallusionBench.tsv", rows)
    return folder / "HallusionBench.tsv"


PUBLISHED: Mapping[str, Callable[[Path], Path]] = {"pope": pope, "hallusion_bench": hallusion_bench}
