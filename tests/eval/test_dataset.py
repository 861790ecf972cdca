"""Reading benchmarks from all supported formats, and the errors for bad data."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import datasets
import pytest

from colm_vl.errors import InputError
from eval.benchmarks.registry import find
from eval.evaluator import plan
from tests.eval import published


def test_saved_to_disk(tmp_path: Path) -> None:
    rows = published.scienceqa_rows()
    table = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())
    datasets.DatasetDict({"test": table}).save_to_disk(str(tmp_path / "saved"))
    planned = plan(find("scienceqa"), tmp_path / "saved")
    assert [item.groups.get("image") for item in planned.items] == ["IMG", None, "IMG", None]
    assert [len(query.images) for query in planned.questions] == [1, 0, 1, 0]


def test_tsv_shares_pictures_and_keeps_the_word_none(tmp_path: Path) -> None:
    planned = plan(find("mmbench"), published.mmbench(tmp_path))
    queries = list(planned.questions)
    assert queries[2].images[0].digest == queries[0].images[0].digest != queries[1].images[0].digest
    assert queries[0].choices == ("cat", "None")
    assert queries[1].question.startswith("Look.\n")


def test_tsv_of_mmmu_has_both_splits_and_several_pictures(tmp_path: Path) -> None:
    common = {"question": "<image 1>?", "A": "cat", "B": "dog", "answer": "B", "question_type": ""}
    both = str([published.base64_png(1), published.base64_png(2)])
    rows = [
        {"index": "1", "id": "validation_Math_1", "image": both, "split": "validation", **common},
        {"index": "2", "id": "dev_Math_1", "image": both, "split": "dev", **common},
    ]
    published.tsv(tmp_path / "MMMU_DEV_VAL.tsv", rows)
    planned = plan(find("mmmu"), tmp_path / "MMMU_DEV_VAL.tsv")
    assert [item.id for item in planned.items] == ["validation_Math_1"]
    assert [len(query.images) for query in planned.questions] == [2]


def test_without_data_only_the_hub_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def load(hub: str, config: str | None, split: str) -> datasets.Dataset:
        asked.append((hub, config, split))
        return datasets.Dataset.from_list([{"question": "1 and 1?", "answer": "#### 2"}])

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert len(plan(find("gsm8k"), None).items) == 1
    assert asked == [("openai/gsm8k", "main", "test")]
    plan(find("gsm8k"), published.gsm8k(tmp_path))
    assert len(asked) == 1


def test_limit_is_nested_and_keeps_units_together(tmp_path: Path) -> None:
    data = published.mme(tmp_path)
    few, more = (plan(find("mme"), data, limit=limit).items for limit in (1, 3))
    assert len(few) == 2
    assert len({item.unit for item in few}) == 1
    assert {item.id for item in few} < {item.id for item in more}


def write(folder: Path, text: str) -> Path:
    folder.joinpath("x.jsonl").write_text(text)
    return folder / "x.jsonl"


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("ai2d", '{"question": "?", "answer": "A"}\n', "missing column options or choices or A or choice_a"),
        (
            "mmmu",
            '{"id": "validation_Math_1", "question": "?"}\n',
            "missing columns answer, options or A or question_type",
        ),
        ("ai2d", '{"question": "?", "options": ["a", "b"], "answer": "E"}\n', "answer 'E' is not one of its 2 options"),
        ("ai2d", "[1]\n", "x.jsonl, line 1: is a list, expected an object"),
        (
            "gsm8k",
            '{"question": "?", "answer": "#### 1"}\n{"question": "?"}\n',
            "row 2: missing column answer; found question",
        ),
        (
            "scienceqa",
            '{"question": "?", "choices": ["a", "b"], "answer": 0, "grade": "kindergarten"}\n',
            "question 0: grade 'kindergarten', expected grade1 to grade12",
        ),
        ("ai2d", "", "no questions of split 'test'"),
        (
            "mmmu",
            '{"id": "validation_Magic_1", "question": "?", "options": "[]", "answer": "1", "question_type": "open"}\n',
            "unknown subject 'Magic'",
        ),
    ],
)
def test_wrong_rows_are_refused(name: str, text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=told):
        plan(find(name), write(tmp_path, text))


def test_other_encodings_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes('{"question": "Où ?", "answer": "#### 1"}\n'.encode("latin-1"))
    with pytest.raises(InputError, match=r"x\.jsonl, line 1: is not UTF-8 text"):
        plan(find("gsm8k"), tmp_path / "x.jsonl")


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"question": "?", "answer": "#### 1"}\n', encoding="utf-8-sig")
    assert len(plan(find("gsm8k"), tmp_path / "x.jsonl").items) == 1


def test_an_open_question_of_a_tsv_may_have_no_options(tmp_path: Path) -> None:
    common = {"question": "?", "image": published.base64_png(1)}
    rows = [
        {"id": "validation_Math_1", "A": "cat", "B": "dog", "answer": "B", **common},
        {"id": "validation_Math_2", "A": "", "B": "", "answer": "7", **common},
    ]
    published.tsv(tmp_path / "x.tsv", rows)
    assert [item.kind for item in plan(find("mmmu"), tmp_path / "x.tsv").items] == ["choice", "open"]


def test_wrong_places_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        plan(find("ai2d"), tmp_path / "nowhere")
    with pytest.raises(InputError, match="no data in this folder"):
        plan(find("ai2d"), tmp_path)
    published.parquet(tmp_path / "data" / "train-00000-of-00001.parquet", [{"question": "?"}])
    with pytest.raises(InputError, match="no split 'test'; found train"):
        plan(find("ai2d"), tmp_path)
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="not a Parquet file"):
        plan(find("ai2d"), tmp_path / "cut.parquet")
    with pytest.raises(InputError, match="unknown split 'dev'"):
        plan(find("ai2d"), tmp_path, "dev")
    with pytest.raises(InputError, match="no folder for Physics"):
        plan(find("mmmu"), published.mmmu(tmp_path / "m"), subjects=["Math", "Physics"])
    with pytest.raises(InputError, match="generates its questions"):
        plan(find("pocket"), tmp_path)


def test_a_broken_picture_names_its_question(tmp_path: Path) -> None:
    row = {"question": "?", "options": ["a", "b"], "answer": "A", "image": {"bytes": b"no picture", "path": None}}
    published.parquet(tmp_path / "test.parquet", [row])
    with pytest.raises(InputError, match="question 0: "):
        list(plan(find("ai2d"), tmp_path).questions)


def test_gold_needs_no_pictures(tmp_path: Path) -> None:
    path = tmp_path / "gold.json"
    path.write_text(json.dumps([{"question": "?", "options": ["a", "b"], "answer": "B"}]))
    assert find("ai2d").gold(path, "test")[0].gold == ("B",)


def test_pictures_of_a_file_of_questions_are_asked_about(tmp_path: Path) -> None:
    """The schema of `colm-vl batch`: `images`, with paths relative to the file, and `choices`."""
    (tmp_path / "a.png").write_bytes(published.png(1))
    rows = [
        {"id": str(number), "question": "?", "images": images, "choices": ["a", "b"], "answer": "A"}
        for number, images in enumerate(
            (["a.png"], ["a.png", "a.png"], [f"data:image/png;base64,{published.base64_png(1)}"])
        )
    ]
    published.json_lines(tmp_path / "q.jsonl", rows)
    assert [len(query.images) for query in plan(find("ai2d"), tmp_path / "q.jsonl").questions] == [1, 2, 1]
    assert [len(query.images) for query in plan(find("scienceqa"), tmp_path / "q.jsonl").questions] == [1, 2, 1]


def test_a_question_about_a_picture_is_not_asked_without(tmp_path: Path) -> None:
    published.json_lines(
        tmp_path / "q.jsonl", [{"question": "?", "choices": ["a", "b"], "answer": "A", "photo": "a.png"}]
    )
    with pytest.raises(InputError, match="question 0 has no image"):
        list(plan(find("ai2d"), tmp_path / "q.jsonl").questions)


def test_scienceqa_with_its_picture_questions_apart_counts_them_once(tmp_path: Path) -> None:
    rows = published.scienceqa_rows()
    name = "test-00000-of-00001.parquet"
    published.parquet(tmp_path / "ScienceQA-FULL" / name, rows)
    published.parquet(tmp_path / "ScienceQA-IMG" / name, [row for row in rows if row["image"]])
    assert [len(plan(find("scienceqa"), tmp_path, subjects=part).items) for part in ((), ["IMG"])] == [4, 2]
    assert len(find("scienceqa").gold(tmp_path, "test")) == 4
    assert len(plan(find("scienceqa"), tmp_path / "ScienceQA-IMG").items) == 2


def test_data_in_several_folders_of_unknown_names_are_not_added_up(tmp_path: Path) -> None:
    for part in ("one", "two", ".cache"):
        published.parquet(tmp_path / part / "test-00000-of-00001.parquet", published.scienceqa_rows())
    with pytest.raises(InputError, match="data in 2 folders: one, two"):
        plan(find("scienceqa"), tmp_path)


def test_gold_of_a_folder_is_of_the_part_that_is_asked(tmp_path: Path) -> None:
    for config in ("standard (4 options)", "standard (10 options)", "vision"):
        published.mmmu_pro(config)(tmp_path)
    assert len(find("mmmu_pro").gold(tmp_path, "test")) == 3
    assert len(find("mmmu").gold(published.mmmu(tmp_path / "mmmu"), "validation")) == 6


@pytest.mark.parametrize("split", ["", "dev", "validation"])
def test_mmbench_may_call_its_split_validation(split: str, tmp_path: Path) -> None:
    """As HuggingFaceM4/MMBench does, with pictures in base64."""
    row = {"index": 241, "question": "?", "hint": None, "A": "cat", "B": "dog", "C": None, "D": None, "answer": "B"}
    row |= {"category": "x", "image": published.base64_png(), "l2-category": "y", "comment": "z", "split": "dev"}
    published.parquet(tmp_path / "data" / "validation-00000-of-00001-93861598ee8837c0.parquet", [row])
    published.parquet(tmp_path / "data" / "test-00000-of-00001-147b3b3e74778350.parquet", [row | {"answer": None}])
    planned = plan(find("mmbench"), tmp_path, split)
    assert [(item.id, item.options, item.gold) for item in planned.items] == [("241", ("cat", "dog"), ("B",))]
    assert [len(query.images) for query in planned.questions] == [1]
    assert len(find("mmbench").gold(tmp_path, "validation")) == 1


def test_seed_bench_pictures_lie_beside_its_file(tmp_path: Path) -> None:
    file = published.seed_bench(tmp_path)
    (tmp_path / "SEED-Bench-image").mkdir()
    for picture in tmp_path.glob("1_*"):
        picture.rename(tmp_path / "SEED-Bench-image" / picture.name)
    for data in (file, tmp_path):
        assert [len(query.images) for query in plan(find("seed_bench"), data).questions] == [1, 1]


def test_files_without_a_split_are_ignored_beside_files_of_the_split(tmp_path: Path) -> None:
    """As in the `data` folder of the authors of GSM8K."""
    published.gsm8k(tmp_path)
    (tmp_path / "example_model_solutions.jsonl").write_text('{"6B": "…"}\n')
    (tmp_path / "test_socratic.jsonl").write_text((tmp_path / "test.jsonl").read_text())
    assert len(plan(find("gsm8k"), tmp_path).items) == 3


def test_the_error_for_a_missing_absolute_path_does_not_mention_relative_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"question": "?", "options": ["a", "b"], "answer": "A", "image_path": "gone.png"}
    published.json_lines(tmp_path / "q.jsonl", [row])
    with pytest.raises(InputError, match=r"gone\.png' does not exist") as told:
        list(plan(find("ai2d"), tmp_path / "q.jsonl").questions)
    assert told.value.hint == "check the path"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as told:
        list(plan(find("ai2d"), Path("q.jsonl")).questions)
    assert "relative" in str(told.value.hint)


def test_a_seed_gives_other_questions_of_the_pocket_world() -> None:
    benchmark = find("pocket")
    first, again, other, fixed = (
        [item.question for item in islice(benchmark.load(replace(benchmark.source(None, split), images=False)), 30)]
        for split in ("fresh-5", "fresh-5", "fresh-6", "test")
    )
    assert first == again
    assert len({tuple(first), tuple(other), tuple(fixed)}) == 3
    with pytest.raises(InputError, match="split"):
        benchmark.source(None, "fresh-x")
