"""Small data sets in the published formats of MathVista, with invented questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.eval.published import base64_png, parquet, picture, tsv
from tests.eval.short_answers import save_image, save_json


def problem(pid: int, answer: str, answer_type: str = "text", choices: list[str] | None = None) -> dict[str, Any]:
    return {
        "pid": str(pid),
        "question": f"How much is it, {pid}?",
        "image": f"images/{pid}.jpg",
        "choices": choices,
        "unit": "g" if answer_type == "integer" else None,
        "precision": float(len(answer.partition(".")[2])) if answer_type == "float" else None,
        "answer": answer,
        "question_type": "multi_choice" if choices else "free_form",
        "answer_type": answer_type,
        "metadata": {
            "split": "testmini",
            "language": "english",
            "img_width": 32,
            "img_height": 24,
            "source": "SciBench",
            "category": "math-targeted-vqa",
            "task": "textbook question answering",
            "context": "scientific figure",
            "grade": "college",
            "skills": ["scientific reasoning", "arithmetic reasoning"]
            if answer_type == "integer"
            else ["logical reasoning"],
        },
    }


def problems() -> list[dict[str, Any]]:
    return [
        problem(1, "1.2", "float"),
        problem(2, "1000", "integer"),
        problem(3, "145°", choices=["135°", "140°", "145°", "145°"]),
        problem(4, "[2014, 2016]", "list"),
    ]


def hub(folder: Path) -> Path:
    rows = [{**problem(number, "b", choices=["a", "b"]), "query": "x"} for number in range(3)]
    for number, row in enumerate(rows):
        row["decoded_image"] = picture(number)
    parquet(folder / "data" / "testmini-00000-of-00001-725687bf7a18d64b.parquet", rows)
    return folder


def official(folder: Path) -> Path:
    save_json(folder / "testmini.json", {row["pid"]: row for row in problems()})
    save_json(folder / "query.json", {row["pid"]: "x" for row in problems()})
    for row in problems():
        save_image(folder / str(row["image"]))
    return folder


def query(row: dict[str, Any]) -> str:
    unit = f" (Unit: {row['unit']})" if row["unit"] else ""
    choices = [f"({letter}) {choice}" for letter, choice in zip("ABCD", row["choices"] or [], strict=False)]
    listed = "\n".join(["", "Choices:", *choices]) if choices else ""
    return f"Hint: Please answer, at the end.\nQuestion: {row['question']}{unit}{listed}"


def vlmevalkit(folder: Path) -> Path:
    rows = [
        {
            "index": row["pid"],
            "image": base64_png(),
            "question": query(row),
            "question_type": row["question_type"],
            "answer_type": row["answer_type"],
            "choices": str(row["choices"] or []),
            "answer": row["answer"],
            "answer_option": "C" if row["choices"] else "",
            "task": row["metadata"]["task"],
            "skills": str(row["metadata"]["skills"]),
        }
        for row in problems()
    ]
    tsv(folder / "MathVista_MINI.tsv", rows)
    return folder / "MathVista_MINI.tsv"


PUBLISHED: Mapping[str, Callable[[Path], Path]] = {"mathvista": hub, "mathvista_extracted": hub}
