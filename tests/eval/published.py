"""Small data sets in the published formats of the benchmarks, with invented questions and generated pictures."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq

Rows = Sequence[Mapping[str, Any]]


def png(shade: int = 0) -> bytes:
    file = io.BytesIO()
    PIL.Image.new("RGB", (32, 24), (shade % 256, 120, 60)).save(file, "PNG")
    return file.getvalue()


def picture(shade: int = 0) -> dict[str, Any]:
    """A picture as stored on the hub."""
    return {"bytes": png(shade), "path": f"{shade}.png"}


def base64_png(shade: int = 0) -> str:
    return base64.b64encode(png(shade)).decode()


def parquet(path: Path, rows: Rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)


def tsv(path: Path, rows: Rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)


def json_lines(path: Path, rows: Rows) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def mmmu(folder: Path) -> Path:
    for subject in ("Math", "Art_Theory"):
        rows = [
            {
                "id": f"validation_{subject}_{number}",
                "question": f"What is in <image 1>? ({number})",
                "options": "[]" if number == 3 else "['a cat', 'a <image 2>', 'a cow']",
                "explanation": "",
                "image_1": picture(number),
                "image_2": picture(number + 10) if number == 1 else None,
                **{f"image_{more}": None for more in range(3, 8)},
                "img_type": "['Photographs']",
                "answer": "['7', 'seven']" if number == 3 else "B",
                "topic_difficulty": "Easy",
                "question_type": "open" if number == 3 else "multiple-choice",
                "subfield": "x",
            }
            for number in (1, 2, 3)
        ]
        parquet(folder / subject / "validation-00000-of-00001.parquet", rows)
        parquet(folder / subject / "test-00000-of-00001.parquet", rows[:1])
    return folder


def mmmu_pro(config: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        options = [f"option {number}" for number in range(4 if "4" in config else 10)]
        common = {"options": str(options), "answer": "B", "subject": "Math"}
        rows: list[dict[str, Any]] = []
        for number in (1, 2, 3):
            row = {"id": f"test_Math_{number}", **common}
            if config == "vision":
                rows.append({**row, "image": picture(number)})
            else:
                empty = {f"image_{more}": None for more in range(2, 8)}
                rows.append({**row, "question": f"<image 1> {number}?", "image_1": picture(number), **empty})
        parquet(folder / config / "test-00000-of-00001.parquet", rows)
        return folder

    return make


def scienceqa_rows() -> list[dict[str, Any]]:
    return [
        {
            "image": picture(number) if number % 2 else None,
            "question": f"Which is it, {number}?",
            "choices": ["one", "two"],
            "answer": 1,
            "hint": "A hint." if number == 2 else "",
            "task": "closed choice",
            "grade": f"grade{number * 3}",
            "subject": ("natural science", "social science", "language science")[number % 3],
            "topic": "x", "category": "x", "skill": "x", "lecture": "", "solution": "",
        }
        for number in (1, 2, 3, 4)
    ]  # fmt: skip


def scienceqa(folder: Path) -> Path:
    parquet(folder / "data" / "test-00000-of-00001-abcdef0123456789.parquet", scienceqa_rows())
    return folder


def scienceqa_official(folder: Path) -> Path:
    problems = {}
    for pid, row in enumerate(scienceqa_rows(), 11):
        problems[str(pid)] = {**row, "image": "image.png" if row["image"] else None, "split": "test"}
        if row["image"]:
            (folder / "test" / str(pid)).mkdir(parents=True)
            (folder / "test" / str(pid) / "image.png").write_bytes(row["image"]["bytes"])
    (folder / "problems.json").write_text(json.dumps(problems))
    (folder / "pid_splits.json").write_text(json.dumps({"test": list(problems), "val": [], "train": []}))
    return folder


def ai2d(folder: Path) -> Path:
    rows = [
        {"question": f"Which part, {number}?", "options": ["a", "b", "c", "d"], "answer": "1", "image": picture(number)}
        for number in range(4)
    ]
    parquet(folder / "data" / "test-00000-of-00001.parquet", rows)
    return folder


def mmbench_rows() -> list[dict[str, Any]]:
    return [
        {
            "index": str(number),
            "question": f"What is it, {number}?",
            "hint": "Look." if number == 1 else "",
            "A": "cat", "B": "None", "C": "cow" if number else "", "D": "",
            "answer": "B",
            "category": "object_localization",
            "l2-category": "finegrained_perception",
            "image": base64_png(number) if number < 2 else "0",
            "split": "dev",
        }
        for number in range(3)
    ]  # fmt: skip


def mmbench(folder: Path) -> Path:
    tsv(folder / "MMBench_DEV_EN.tsv", mmbench_rows())
    return folder / "MMBench_DEV_EN.tsv"


def mmbench_hub(folder: Path) -> Path:
    """The Parquet of the hub, with one rotation and "nan" for missing values."""
    common = {"question": "What is it?", "C": "nan", "D": "nan", "hint": "nan", "category": "x", "L2-category": "y"}
    rows = [
        {"index": 7, "A": "cat", "B": "dog", "answer": "B", "image": picture(1), **common},
        {"index": 1_000_007, "A": "dog", "B": "cat", "answer": "A", "image": picture(1), **common},
        {"index": 8, "A": "A and B", "B": "neither", "answer": "A", "image": picture(2), **common},
    ]
    parquet(folder / "en" / "dev-00000-of-00001.parquet", rows)
    return folder


def seed_bench_hub(folder: Path) -> Path:
    """The Parquet of the hub, with a list of pictures: a single one, or the frames of a video."""
    rows = [
        {
            "answer": "D",
            **{f"choice_{letter}": f"it is {letter}" for letter in "abcd"},
            "data_id": f"1_{number}",
            "data_type": "image" if number <= 9 else "video",
            "image": [picture(number + frame) for frame in range(1 if number <= 9 else 8)],
            "question": "How many?",
            "question_id": str(100 + number),
            "question_type_id": number,
            "segment": None,
        }
        for number in (1, 9, 10, 12)
    ]
    parquet(folder / "data" / "test-00000-of-00001.parquet", rows)
    return folder


def seed_bench(folder: Path) -> Path:
    """The official JSON, with picture files named by the data id."""
    questions = []
    for number in range(3):
        (folder / f"1_{number}").write_bytes(png(number))
        questions.append(
            {
                "answer": "B",
                **{f"choice_{letter}": f"it is {letter}" for letter in "abcd"},
                "data_id": f"1_{number}",
                "data_type": "video" if number == 2 else "image",
                "question": f"How many, {number}?",
                "question_id": str(100 + number),
                "question_type_id": 10 if number == 2 else 5,
            }
        )
    (folder / "SEED-Bench.json").write_text(json.dumps({"questions": questions, "question_type": {}}))
    return folder / "SEED-Bench.json"


def mmstar(folder: Path) -> Path:
    """The hub: the options are part of the question."""
    rows = [
        {
            "index": number,
            "question": f"Which is it, {number}?\nOptions: A: a cat, B: a dog, big, C: one, two, D: none.",
            "image": picture(number),
            "answer": "B",
            "category": ("coarse perception", "math")[number % 2],
            "l2_category": ("image emotion", "geometry")[number % 2],
            "meta_info": {"source": "x", "split": "val", "image_path": "x.jpg"},
        }
        for number in range(3)
    ]
    parquet(folder / "mmstar.parquet", rows)
    return folder


def realworldqa(folder: Path) -> Path:
    """The hub: the options and how to reply are part of the question."""
    letter = "Please answer directly with only the letter of the correct option and nothing else."
    rows = [
        {"question": f"Where to, {number}?\n\nA. Left\nB. Right\nC. Straight\n{letter}", "answer": "B"}
        for number in range(2)
    ]
    rows.append({"question": "How many?\n\nPlease answer directly with a single word or number.", "answer": "2"})
    parquet(
        folder / "data" / "test-00000-of-00001.parquet",
        [{**row, "image": picture(number), "image_path": f"{number}.webp"} for number, row in enumerate(rows)],
    )
    return folder


def mme(folder: Path) -> Path:
    rows = [
        {
            "question_id": f"{category}/{number // 2}.png",
            "image": picture(number // 2),
            "question": f"Is it {number}? Please answer yes or no.",
            "answer": "Yes" if number % 2 else "No",
            "category": category,
        }
        for category in ("existence", "code_reasoning")
        for number in range(4)
    ]
    parquet(folder / "data" / "test-00000-of-00001.parquet", rows)
    return folder


def mme_tsv(folder: Path) -> Path:
    """VLMEvalKit's TSV: the second question refers to the picture of the first, and both have its file name."""
    rows = [
        {
            "index": str(number),
            "image": "0" if number else base64_png(),
            "image_path": "existence/0001.jpg",
            "question": f"Is it {number}? Please answer yes or no.",
            "answer": "No" if number else "Yes",
            "category": "existence",
        }
        for number in range(2)
    ]
    tsv(folder / "MME.tsv", rows)
    return folder / "MME.tsv"


def ocrbench_official(folder: Path) -> Path:
    """The official JSON: ids are unique within a data set, answers are one or several texts, pictures are files."""
    rows: list[dict[str, Any]] = [
        {"dataset_name": "svt", "type": "Regular Text Recognition", "answers": "STOP"},
        {"dataset_name": "IAM", "type": "Handwriting Recognition", "answers": ["stop", "halt"]},
        {"dataset_name": "docVQA", "type": "Doc-oriented VQA", "answers": ["1,000"]},
    ]
    for row in rows:
        row |= {"id": 5, "question": "What is written?", "image_path": f"{row['dataset_name']}/5.png"}
        place = folder / "OCRBench_Images" / row["image_path"]
        place.parent.mkdir(parents=True)
        place.write_bytes(png(len(row["type"])))
    (folder / "OCRBench").mkdir()
    (folder / "OCRBench" / "OCRBench.json").write_text(json.dumps(rows))
    return folder / "OCRBench" / "OCRBench.json"


def ocrbench(folder: Path) -> Path:
    kinds = ("Regular Text Recognition", "Handwritten Mathematical Expression Recognition")
    rows = [
        {
            "dataset": "x",
            "question": "What is written?",
            "question_type": kinds[number % 2],
            "answer": ["B"],
            "image": picture(number),
        }
        for number in range(4)
    ]
    parquet(folder / "data" / "test-00000-of-00001.parquet", rows)
    return folder


def mmlu_pro(folder: Path) -> Path:
    rows = [
        {
            "question_id": 70 + number,
            "question": f"Which, {number}?",
            "options": [f"option {letter}" for letter in "ABCDEFGHIJ"],
            "answer": "B",
            "answer_index": 1,
            "cot_content": "",
            "category": ("math", "law")[number % 2],
            "src": "x",
        }
        for number in range(4)
    ]
    parquet(folder / "data" / "test-00000-of-00001.parquet", rows)
    return folder


def gsm8k(folder: Path) -> Path:
    rows = [{"question": f"How many, {number}?", "answer": f"Add.\n#### {1000 + number:,}"} for number in range(3)]
    json_lines(folder / "test.jsonl", rows)
    return folder / "test.jsonl"


def alpaca_eval(folder: Path) -> Path:
    rows = [
        {"dataset": "koala", "instruction": f"Write {number}.", "output": "x", "generator": "y"} for number in range(3)
    ]
    (folder / "alpaca_eval.json").write_text(json.dumps(rows))
    return folder / "alpaca_eval.json"


def mt_bench(folder: Path) -> Path:
    rows = [
        {"question_id": 81 + number, "category": "writing", "turns": [f"Write {number}.", "Shorter."]}
        for number in range(2)
    ]
    json_lines(folder / "question.jsonl", rows)
    return folder / "question.jsonl"


def arena_hard(folder: Path) -> Path:
    json_lines(folder / "question.jsonl", [{"uid": "ab12", "category": "hard", "prompt": "Write a poem."}])
    return folder / "question.jsonl"


PUBLISHED: Mapping[str, Callable[[Path], Path]] = {
    "mmmu": mmmu,
    "mmmu_pro": mmmu_pro("standard (10 options)"),
    "mmmu_pro_4": mmmu_pro("standard (4 options)"),
    "mmmu_pro_vision": mmmu_pro("vision"),
    "scienceqa": scienceqa,
    "ai2d": ai2d,
    "mmbench": mmbench,
    "mmbench_circular": mmbench,
    "seed_bench": seed_bench,
    "mmstar": mmstar,
    "realworldqa": realworldqa,
    "mme": mme,
    "ocrbench": ocrbench,
    "mmlu_pro": mmlu_pro,
    "gsm8k": gsm8k,
    "alpaca_eval": alpaca_eval,
    "mt_bench": mt_bench,
    "arena_hard": arena_hard,
}
