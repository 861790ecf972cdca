"""Files of questions in other layouts: saved data sets, tables with tabs, and columns with other names."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from colm_vl import InputError
from colm_vl.batch.questions import Questions, Row, read_columns
from processors.images import Image
from tests.teams import FIVE, scripted


def png(colour: str = "red") -> bytes:
    file = io.BytesIO()
    PIL.Image.new("RGB", (40, 30), colour).save(file, "PNG")
    return file.getvalue()


def colours(row: Row) -> list[Any]:
    return [Image.open(picture).pil().getpixel((0, 0)) for picture in row.pictures]


RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed: pip install 'colm-vl[eval]'")
    features = datasets.Features(
        {
            "id": datasets.Value("string"),
            "question": datasets.Value("string"),
            "image": datasets.Image(),
            "choices": datasets.Sequence(datasets.Value("string")),
            "answer": datasets.Value("int64"),
        }
    )
    rows = [
        {"id": f"q{n}", "question": f"Number {n}?", "image": {"bytes": png()}, "choices": ["cat", "dog"], "answer": n}
        for n in range(3)
    ]
    made = datasets.Dataset.from_list(rows, features=features)
    datasets.DatasetDict({"train": made, "test": made}).save_to_disk(tmp_path / "set")
    return tmp_path / "set"


def test_a_saved_data_set_is_asked_row_by_row(saved: Path, tmp_path: Path) -> None:
    rows = list(Questions(saved / "test"))
    assert (rows[0].id, rows[0].question, rows[0].choices) == ("q0", "Number 0?", ("cat", "dog"))
    assert rows[2].metadata == {"answer": 2}
    assert colours(rows[0]) == [RED]
    assert rows[1].where == "test, row 2"
    with scripted({"one": [FIVE]}, strategy="vote") as colm:
        assert [len(trace.images) for trace in colm.batch(saved / "test", tmp_path / "run")] == [1, 1, 1]


def test_a_saved_data_set_with_splits_names_them(saved: Path) -> None:
    with pytest.raises(InputError, match="set: holds several splits") as refused:
        list(Questions(saved))
    assert "set/train, set/test" in refused.value.hint


def test_a_table_of_vlmevalkit(tmp_path: Path) -> None:
    picture = base64.b64encode(png()).decode()
    other = base64.b64encode(png("blue")).decode()
    (tmp_path / "photo.png").write_bytes(png("blue"))
    lines = [
        ["index", "image", "image_path", "question", "hint", "A", "B", "answer", "category"],
        ["0", picture, "", "Which animal?", "It barks.", "cat", "dog", "B", "animals"],
        ["1", "0", "", "Which colour?", "", "", "", "red", "colours"],
        ["2", f"['{picture}', '{other}']", "", "Which two?", "", "", "", "red", "colours"],
        ["3", "", "photo.png", "Which file?", "", "", "", "blue", "colours"],
    ]
    (tmp_path / "bench.tsv").write_text("".join("\t".join(line) + "\n" for line in lines))
    animals, colour, both, file = Questions(tmp_path / "bench.tsv")
    assert (animals.id, animals.question, animals.choices) == ("0", "It barks.\nWhich animal?", ("cat", "dog"))
    assert animals.metadata == {"answer": "B", "category": "animals"}
    assert (colour.choices, colours(colour)) == ((), [RED])
    assert colours(both) == [RED, BLUE]
    assert colours(file) == [BLUE]


def test_a_picture_of_another_row_that_has_none_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "bench.tsv").write_text("index\timage\tquestion\n0\t0\tWhich?\n1\t99\tWhich?\n")
    rows = list(Questions(tmp_path / "bench.tsv"))
    assert [row.problem for row in rows] == [
        "its image is row 0, which has none",
        "its image is row 99, which has none",
    ]


def test_a_plain_table_with_tabs(tmp_path: Path) -> None:
    (tmp_path / "mine.tsv").write_text('id\tquestion\tchoices\nq1\tWhich, "then"?\tcat|dog\n'.replace('"', ""))
    (row,) = Questions(tmp_path / "mine.tsv")
    assert (row.id, row.question, row.choices) == ("q1", "Which, then?", ("cat", "dog"))


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_columns_with_other_names(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "red.png").write_bytes(png())
    file = tmp_path / f"mine.{suffix}"
    fields = {"key": "k1", "query": "Which colour?", "picture": "red.png", "question": "none of this"}
    if suffix == "csv":
        file.write_text("\n".join((",".join(fields), ",".join(fields.values()))))
    else:
        file.write_text(json.dumps(fields))
    columns = {"id": "key", "question": "query", "images": "picture"}
    (row,) = Questions(file, columns=columns)
    assert (row.id, row.question, colours(row)) == ("k1", "Which colour?", [RED])
    with scripted({"one": [FIVE]}, strategy="vote") as colm:
        (trace,) = colm.batch(file, columns=columns)
        assert colm.plan(file, columns=columns).questions == 1
    assert (trace.question, len(trace.images)) == ("Which colour?", 1)


def test_mistakes_in_a_mapping_are_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text('{"query": "Which?", "picture": "a.png"}\n{"query": "Why?"}')
    with pytest.raises(InputError, match=r"mine\.jsonl: no column is called 'photo'") as refused:
        list(Questions(file, columns={"question": "query", "images": "photo"}))
    assert refused.value.hint == "its columns: query, picture"
    with pytest.raises(InputError, match="'answer' is no field of a question"):
        Questions(file, columns={"answer": "gold"})
    with pytest.raises(InputError, match="'question' maps no field to a column"):
        read_columns("question")
    assert read_columns("question=query, images=picture") == {"question": "query", "images": "picture"}
    table = tmp_path / "mine.csv"
    table.write_text("id,query\n1,Which?\n")
    with pytest.raises(InputError, match="no column is called 'question'") as told:
        list(Questions(table))
    assert told.value.hint == "its columns: id, query; --map question=COLUMN names another"
