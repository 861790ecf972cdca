"""Small data sets in the published formats of benchmarks with short answers, with invented questions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.eval.published import base64_png, parquet, picture, png, tsv


def annotated(*answers: str) -> list[dict[str, Any]]:
    """Ten annotators' answers, the last one repeated."""
    filled = [*answers, *[answers[-1]] * (10 - len(answers))]
    return [{"answer": text, "answer_confidence": "yes", "answer_id": number} for number, text in enumerate(filled, 1)]


def save_json(path: Path, data: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def save_image(path: Path, shade: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(shade))


def vqav2(folder: Path) -> Path:
    """The hub."""
    rows = [
        {
            "question_type": "what color",
            "multiple_choice_answer": "(b)",
            "answers": annotated("b", "B"),
            "image_id": number,
            "answer_type": "other",
            "question_id": 1000 + number,
            "question": "What is it?",
            "image": picture(number),
        }
        for number in range(2)
    ]
    parquet(folder / "data" / "validation-00000-of-00001.parquet", rows)
    return folder


def vqav2_official(folder: Path, *answers: Sequence[str]) -> Path:
    """Questions, annotations and images in folders of their own, as in the repository's README."""
    questions = [
        {"image_id": 42, "question": f"What is it, {number}?", "question_id": 42000 + number}
        for number in range(len(answers))
    ]
    kinds = ("yes/no", "number", "other")
    annotations = [
        {
            "question_type": "what is",
            "multiple_choice_answer": texts[0],
            "answers": annotated(*texts),
            "image_id": 42,
            "answer_type": kinds[number % 3],
            "question_id": 42000 + number,
        }
        for number, texts in enumerate(answers)
    ]
    common = {"info": {}, "license": {}, "data_type": "mscoco", "data_subtype": "val2014"}
    file = folder / "Questions" / "v2_OpenEnded_mscoco_val2014_questions.json"
    save_json(file, {**common, "task_type": "Open-Ended", "questions": questions})
    save_json(
        folder / "Annotations" / "v2_mscoco_val2014_annotations.json",
        {**common, "annotations": list(reversed(annotations))},
    )
    save_image(folder / "Images" / "mscoco" / "val2014" / "COCO_val2014_000000000042.jpg")
    return folder


def textvqa_row(number: int, *answers: str) -> dict[str, Any]:
    return {
        "image_id": f"{number:016x}",
        "question_id": 34602 + number,
        "question": "what does it say?",
        "question_tokens": ["what", "does", "it", "say"],
        "image_width": 32,
        "image_height": 24,
        "flickr_original_url": "",
        "flickr_300k_url": "",
        "answers": [one["answer"] for one in annotated(*answers)],
        "image_classes": ["Sign"],
        "set_name": "val",
    }


def textvqa(folder: Path) -> Path:
    rows = [{**textvqa_row(number, "b"), "image": picture(number), "ocr_tokens": ["b"]} for number in range(2)]
    parquet(folder / "data" / "validation-00000-of-00001.parquet", rows)
    unanswered = [{**row, "answers": [""] * 10, "set_name": "test"} for row in rows]
    parquet(folder / "data" / "test-00000-of-00001.parquet", unanswered)
    return folder


def textvqa_official(folder: Path, *answers: Sequence[str]) -> Path:
    rows = [textvqa_row(number, *texts) for number, texts in enumerate(answers)]
    common = {"dataset_type": "val", "dataset_name": "textvqa", "dataset_version": "0.5.1"}
    save_json(folder / "TextVQA_0.5.1_train.json", {**common, "data": [textvqa_row(99, "x")]})
    save_json(folder / "TextVQA_0.5.1_val.json", {**common, "data": rows})
    for row in rows:
        save_image(folder / "train_images" / f"{row['image_id']}.jpg")
    return folder


def textvqa_tsv(folder: Path) -> Path:
    rows = [
        {"index": str(number), "image": base64_png() if not number else "0", "question": "?", "answer": str(["b"] * 10)}
        for number in range(2)
    ]
    tsv(folder / "TextVQA_VAL.tsv", rows)
    return folder / "TextVQA_VAL.tsv"


def vizwiz(folder: Path) -> Path:
    rows = [
        {
            "question_id": f"VizWiz_val_{number:08d}",
            "image": picture(number),
            "question": "What is this?",
            "answers": ["b"] * 10,
            "category": "other",
        }
        for number in range(2)
    ]
    parquet(folder / "data" / "val-00000-of-00001-7775fd61bc6a3d98.parquet", rows)
    return folder


def vizwiz_official(folder: Path) -> Path:
    rows = [
        {
            "image": f"VizWiz_val_{number:08d}.jpg",
            "question": "What is this?",
            "answers": [{"answer_confidence": "yes", "answer": text} for text in texts],
            "answer_type": kind,
            "answerable": int(kind != "unanswerable"),
        }
        for number, (kind, texts) in enumerate(
            [("other", ["Soup."] * 5 + ["soup"] * 5), ("unanswerable", ["unanswerable"] * 9 + ["can"])]
        )
    ]
    save_json(folder / "Annotations" / "val.json", rows)
    for row in rows:
        save_image(folder / "val" / str(row["image"]))
    return folder / "Annotations" / "val.json"


def gqa_row(number: int, answer: str, structural: str = "query") -> dict[str, Any]:
    return {
        "imageId": f"n{number}",
        "question": "What is it?",
        "answer": answer,
        "fullAnswer": f"It is a {answer}.",
        "isBalanced": True,
        "groups": {"global": "thing", "local": "06-it"},
        "types": {"structural": structural, "semantic": "obj", "detailed": "existC"},
        "semanticStr": "select: it [0]",
    }


def gqa(folder: Path) -> Path:
    """The hub: questions and images in two configurations."""
    rows = [{"id": f"2007{number}", **gqa_row(number // 2, "(b)" if number else "b")} for number in range(4)]
    images = [{"id": f"n{number}", "image": picture(number)} for number in range(2)]
    parquet(folder / "testdev_balanced_instructions" / "testdev-00000-of-00001.parquet", rows)
    parquet(folder / "testdev_balanced_images" / "testdev-00000-of-00001.parquet", images)
    return folder


def gqa_official(folder: Path) -> Path:
    rows = {"20070": gqa_row(0, "table"), "20071": gqa_row(1, "yes", "verify"), "20072": gqa_row(1, "no", "logical")}
    save_json(folder / "testdev_balanced_questions.json", rows)
    for number in range(2):
        save_image(folder / "images" / f"n{number}.jpg", number)
    return folder


def chartqa(folder: Path) -> Path:
    rows = [
        {"type": kind, "question": f"How many, {number}?", "answer": "(B)", "image": picture(number)}
        for number, kind in enumerate(("human_test", "human_test", "augmented_test"))
    ]
    parquet(folder / "data" / "test-00000-of-00001.parquet", rows)
    return folder


def chartqa_official(folder: Path) -> Path:
    answers = {"human": ["10", "Yes"], "augmented": ["2014"]}
    for part, labels in answers.items():
        rows = [{"imgname": f"{part}.png", "query": f"Which, {label}?", "label": label} for label in labels]
        save_json(folder / "test" / f"test_{part}.json", rows)
        save_image(folder / "test" / "png" / f"{part}.png")
        save_json(folder / "test" / "annotations" / f"{part}.json", {"models": []})
    return folder


def chartqa_m4(folder: Path) -> Path:
    """HuggingFaceM4/ChartQA."""
    rows = [
        {"image": picture(number), "query": "How many?", "label": ["10"], "human_or_machine": number}
        for number in range(2)
    ]
    parquet(folder / "data" / "test-00000-of-00001-e2cd0b7a0f9eb20d.parquet", rows)
    return folder


def chartqa_tsv(folder: Path) -> Path:
    rows = [
        {"index": str(number), "image": base64_png(), "question": "?", "answer": "10", "split": f"test_{part}"}
        for number, part in enumerate(("augmented", "human"))
    ]
    tsv(folder / "ChartQA_TEST.tsv", rows)
    return folder / "ChartQA_TEST.tsv"


def docvqa(folder: Path) -> Path:
    rows = [
        {
            "questionId": str(49153 + number),
            "question": "What is the date?",
            "question_types": ["handwritten", "form"],
            "image": picture(number),
            "docId": 14465,
            "ucsf_document_id": "pybv0228",
            "ucsf_document_page_no": "81",
            "answers": ["(B)", "B"],
            "data_split": "val",
        }
        for number in range(2)
    ]
    parquet(folder / "DocVQA" / "validation-00000-of-00001.parquet", rows)
    unanswered = [{**row, "answers": None, "data_split": "test"} for row in rows]
    parquet(folder / "DocVQA" / "test-00000-of-00001.parquet", unanswered)
    return folder


def docvqa_official(folder: Path) -> Path:
    """The questions and images of rrc.cvc.uab.es, each in a folder of their own."""
    answers = {"val": [["January 5", "5 January"], ["0.28"]], "test": [None]}
    for split, found in answers.items():
        rows = [
            {
                "questionId": 100 + number,
                "question": "What is the date?",
                "question_types": ["form", "layout"] if number else ["form"],
                "image": f"documents/page_{number}.png",
                "docId": number,
                "ucsf_document_id": "x",
                "ucsf_document_page_no": "1",
                **({"answers": texts} if texts else {}),
                "data_split": split,
            }
            for number, texts in enumerate(found)
        ]
        common = {"dataset_name": "SP-DocVQA", "dataset_version": "1.0", "dataset_split": split}
        name = "val_v1.0_withQT.json" if split == "val" else "test_v1.0.json"
        save_json(folder / "spdocvqa_qas" / name, {**common, "data": rows})
        for row in rows:
            save_image(folder / "spdocvqa_images" / Path(str(row["image"])).name)
    return folder


def infographicvqa(folder: Path) -> Path:
    rows = [
        {
            "questionId": str(98313 + number),
            "question": "How many?",
            "answers": ["(B)"],
            "answer_type": ["single span"],
            "image": picture(number),
            "image_url": "x",
            "operation/reasoning": ["Counting"] if number else [],
            "ocr": "{}",
            "data_split": "val",
        }
        for number in range(2)
    ]
    parquet(folder / "InfographicVQA" / "validation-00000-of-00001.parquet", rows)
    return folder


def infographicvqa_official(folder: Path) -> Path:
    rows = [
        {
            "questionId": 98313,
            "question": "How many?",
            "image_local_name": "20471.jpeg",
            "image_url": "x",
            "ocr_output_file": "20471.json",
            "answers": ["4", "four"],
            "data_split": "val",
            "answer_type": ["non-extractive"],
            "evidence": ["Text", "Figure"],
            "operation/reasoning": ["counting"],
        }
    ]
    common = {"dataset_name": "infographicVQA", "dataset_version": "1.0", "dataset_split": "val"}
    save_json(folder / "infographicsvqa_qas" / "infographicsVQA_val_v1.0_withQT.json", {**common, "data": rows})
    save_image(folder / "infographicsvqa_images" / "20471.jpeg")
    return folder


PUBLISHED: Mapping[str, Callable[[Path], Path]] = {
    "vqav2": vqav2,
    "textvqa": textvqa,
    "vizwiz": vizwiz,
    "gqa": gqa,
    "chartqa": chartqa,
    "docvqa": docvqa,
    "infographicvqa": infographicvqa,
}
