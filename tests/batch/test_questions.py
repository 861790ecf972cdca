"""Reading files of questions, and reporting unusable rows."""

from __future__ import annotations

import base64
import csv
import json
import math
import tracemalloc
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from colm_vl import Image, InputError, Query, Trace
from colm_vl.batch.questions import Questions, Row


def _jsonl(path: Path, rows: Iterable[Mapping[str, Any] | str]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8")
    return path


def _rows(path: Path) -> list[Row]:
    return list(Questions(path))


def test_jsonl_fields_reach_the_trace(tmp_path: Path) -> None:
    row = {
        "id": 7,
        "question": "Which?",
        "images": ["a.png", "b.png"],
        "choices": ["x", 2],
        "level": "hard",
        "tags": [1],
    }
    (found,) = _rows(_jsonl(tmp_path / "q.jsonl", [row]))
    assert (found.id, found.question, found.choices) == ("7", "Which?", ("x", "2"))
    assert found.pictures == (str(tmp_path / "a.png"), str(tmp_path / "b.png"))
    assert found.metadata == {"level": "hard", "tags": [1]}


def test_the_default_id_is_the_number_of_the_row(tmp_path: Path) -> None:
    rows = [{"question": "One?"}, "", {"question": "Two?", "id": None}, {"question": "Three?", "id": "c"}]
    assert [row.id for row in _rows(_jsonl(tmp_path / "q.jsonl", rows))] == ["1", "2", "c"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"question": ', "not valid JSON"),
        ("[1, 2]", "a list, expected an object"),
        ("{}", "question is missing"),
        ('{"question": "  "}', "question is ' '"),
        ('{"question": 3}', "question is 3"),
        ('{"question": "Q?", "id": [1]}', "the id is [1]"),
        ('{"question": "Q?", "choices": "red"}', "choices are 'red'"),
        ('{"question": "Q?", "images": [3]}', "a picture is 3"),
        ('{"question": "Q?", "image": "a", "images": ["b"]}', "both image and images"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_an_unusable_row_is_reported_and_does_not_affect_others(tmp_path: Path, line: str, problem: str) -> None:
    rows = _rows(_jsonl(tmp_path / "q.jsonl", [{"question": "Before?"}, line, {"question": "After?"}]))
    assert [bool(row.problem) for row in rows] == [False, True, False]
    assert problem in rows[1].problem
    assert rows[1].where == "q.jsonl, line 2"


def test_text_that_is_not_utf8_is_one_rows_problem(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"question": "One?"}\r\n{"question": "\xff"}\n{"question": "Three?"}')
    assert [row.problem for row in _rows(path)] == ["", "is not UTF-8 text", ""]


def test_an_id_used_twice_is_refused_with_both_places(tmp_path: Path) -> None:
    path = _jsonl(tmp_path / "q.jsonl", [{"id": "a", "question": "1?"}, {"id": "b", "question": "2?"}] * 2)
    with pytest.raises(InputError, match=r"q\.jsonl, line 3: the id 'a' was used before, in q\.jsonl, line 1"):
        Questions(path).survey()


def test_csv_has_lists_in_cells(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "question", "image", "choices", "topic"])
        writer.writerow(["a", "Two\nlines?", "x.png", "red|blue", "colour"])
        writer.writerow(["b", "JSON?", '["x.png", "y.png"]', '["a|b", "c"]', ""])
        writer.writerow(["c", "Short?"])
        writer.writerow(["d", "Long?", "", "", "t", "too much"])
    a, b, c, d = _rows(path)
    assert (a.question, a.choices, a.pictures) == ("Two\nlines?", ("red", "blue"), (str(tmp_path / "x.png"),))
    assert a.metadata == {"topic": "colour"}
    assert b.choices == ("a|b", "c")
    assert len(b.pictures) == 2
    assert (c.choices, c.pictures, c.problem) == ((), (), "")
    assert d.problem == "has 6 cells, expected 5"
    assert d.where == "q.csv, line 6"


@pytest.mark.parametrize(
    ("opened", "asked", "lost"),
    [
        ('2,"Where?\n3,When?\n4,Who?\n', ["What?"], "lines 3 to 5 are lost"),
        ('2,"Where?\n3,"When?"\n4,Who?\n', ["What?", "Who?"], "lines 3 to 4 are lost"),
        ('2,"Where" is it?\n3,When?\n', ["What?", "When?"], "not valid CSV: ',' expected"),
    ],
)
def test_an_unclosed_quote_in_csv_is_reported_with_the_lost_lines(
    tmp_path: Path, opened: str, asked: list[str], lost: str
) -> None:
    path = tmp_path / "q.csv"
    path.write_text("id,question\n1,What?\n" + opened)
    rows = _rows(path)
    (bad,) = (row for row in rows if row.problem)
    assert [row.question for row in rows if not row.problem] == asked
    assert bad.where == "q.csv, line 3"
    assert lost in bad.problem
    assert "quote" in bad.hint


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="needs the extra eval")
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra eval")
    (tmp_path / "q.csv").write_text("question,id,question\nWhat?,1,Where?\n")
    table = arrow.table([["What?"], ["a"], ["b"]], names=["question", "topic", "topic"])
    parquet.write_table(table, tmp_path / "q.parquet")
    for name, column in (("q.csv", "question"), ("q.parquet", "topic")):
        with pytest.raises(InputError, match=f"{name}: 2 columns are called '{column}'"):
            Questions(tmp_path / name).survey()
    (tmp_path / "q.csv").write_text("question,,\nWhat?,,\n")  # as spreadsheets do
    assert [row.question for row in _rows(tmp_path / "q.csv")] == ["What?"]


def test_an_odd_parquet_cell_is_one_rows_problem(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="needs the extra eval")
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra eval")
    late = arrow.array([0, 10**12, 0, 0], arrow.timestamp("s"))  # the year 33,658
    broken = arrow.array([b"a", b"b", b"\xff", b"c"]).view(arrow.string())
    columns = {"id": ["a", "b", "c", "d"], "question": ["What?"] * 4, "when": late, "topic": broken}
    parquet.write_table(arrow.table(columns), tmp_path / "q.parquet")
    rows = _rows(tmp_path / "q.parquet")
    assert [(row.id, bool(row.problem)) for row in rows] == [("a", False), ("b", True), ("c", True), ("d", False)]
    assert [row.where for row in rows[1:3]] == ["q.parquet, row 2", "q.parquet, row 3"]
    assert rows[1].problem.startswith("'when' cannot be read: ")
    assert rows[2].problem.startswith("'topic' cannot be read: ")
    assert rows[3].metadata["topic"] == "c"
    zone = arrow.array([0, 0], arrow.timestamp("s", tz="Mars/Olympus"))
    parquet.write_table(arrow.table({"question": ["What?", "Where?"], "when": zone}), tmp_path / "zone.parquet")
    assert all("'when' cannot be read: " in row.problem for row in _rows(tmp_path / "zone.parquet"))


def test_csv_takes_a_picture_in_a_cell(tmp_path: Path) -> None:
    noise = PIL.Image.effect_noise((512, 512), 100)
    noise.save(tmp_path / "noise.png")
    uri = "data:image/png;base64," + base64.b64encode((tmp_path / "noise.png").read_bytes()).decode()
    assert len(uri) > 131_072
    path = tmp_path / "q.csv"
    path.write_text(f'id,question,images\na,What?,"{uri}"\nb,Other?,\n')
    a, b = _rows(path)
    assert (a.problem, b.problem) == ("", "")
    assert Image.open(a.pictures[0]).width == 512


def test_csv_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    path.write_bytes("id,question\n1,Où est le café?\n2,Where?\n".encode("latin1"))
    rows = _rows(path)
    assert [row.problem for row in rows] == ["is not UTF-8 text", ""]
    assert (rows[0].where, rows[0].question) == ("q.csv, line 2", "")
    path.write_bytes("id,question,Größe\n1,Where?,2\n".encode("latin1"))
    with pytest.raises(InputError, match=r"q\.csv, line 1: is not UTF-8 text"):
        _rows(path)
    path.write_text("id,question\n1,What does � stand for?\n", "utf-8")
    assert not _rows(path)[0].problem


def test_parquet_takes_pictures_from_bytes_or_paths(tmp_path: Path, dots_png: bytes) -> None:
    arrow = pytest.importorskip("pyarrow", reason="needs the extra eval")
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra eval")
    (tmp_path / "dots.png").write_bytes(dots_png)
    rows = [
        {"id": "bytes", "question": "Q?", "image": {"bytes": dots_png, "path": "gone.png"}, "score": 0.5},
        {"id": "path", "question": "Q?", "image": {"bytes": None, "path": "dots.png"}, "score": None},
        {"id": "none", "question": "Q?", "image": None, "score": 1.0},
    ]
    path = tmp_path / "q.parquet"
    parquet.write_table(arrow.Table.from_pylist(rows), path)
    found = _rows(path)
    assert [len(row.pictures) for row in found] == [1, 1, 0]
    digests = {Image.open(row.pictures[0]).digest for row in found[:2]}
    assert len(digests) == 1
    assert [row.metadata for row in found] == [{"score": 0.5}, {"score": None}, {"score": 1.0}]


def test_the_error_for_an_invalid_parquet_file_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="needs the extra eval")
    path = tmp_path / "q.parquet"
    path.write_bytes(b"no")
    with pytest.raises(InputError, match=r"q\.parquet: not a Parquet file"):
        _rows(path)


@pytest.mark.parametrize(("name", "said"), [("q.txt", "unknown kind of file '.txt'"), ("gone.csv", "no such file")])
def test_files_that_cannot_be_read_are_refused_at_once(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "q.txt").touch()
    with pytest.raises(InputError, match=said):
        Questions(tmp_path / name)


def test_queries_are_used_unchanged(dots: Query) -> None:
    named = Query("Named?", id="mine", metadata={"a": 1})
    first, second = Questions(iter([dots, named]))
    assert (first.id, first.query(dots.images).images) == ("1", dots.images)
    assert (second.id, second.metadata) == ("mine", {"a": 1})


@pytest.mark.parametrize("given", [5, None, b"a"])
def test_an_id_that_is_no_text_is_refused(given: Any) -> None:
    with pytest.raises(InputError, match=f"the id is of type {type(given).__name__}, expected a text"):
        Query("How many?", id=given)


def test_metadata_become_plain_json() -> None:
    given = {"when": date(2026, 1, 2), "thumb": b"\xff\xd8", "pair": (1, 2), "id": "kept", 3: "three"}
    (row,) = Questions([Query("Q?", metadata=given)])
    assert row.metadata == {"when": "2026-01-02", "thumb": "2 bytes", "pair": [1, 2], "id": "kept", "3": "three"}


def test_nan_and_infinity_become_text(tmp_path: Path) -> None:
    given = {"a": math.nan, "b": [math.inf, {"c": -math.inf}], "d": 0.5}
    carried = {"a": "NaN", "b": ["Infinity", {"c": "-Infinity"}], "d": 0.5}
    (row,) = Questions([Query("Q?", metadata=given)])
    assert row.metadata == carried
    path = _jsonl(tmp_path / "q.jsonl", [{"question": "Q?", **given}, '{"question": "Q?", "a": 1e999}'])
    assert [row.metadata for row in _rows(path)] == [carried, {"a": "Infinity"}]
    trace = Trace("Q?", "solo", metadata=row.metadata)
    assert Trace.from_dict(json.loads(json.dumps(trace.to_dict(), allow_nan=False))).metadata == carried


def test_metadata_that_cannot_be_written_is_one_rows_problem(tmp_path: Path) -> None:
    endless: dict[str, Any] = {}
    endless["self"] = endless
    given = [{"a": 1}, {(1, 2): 3}, endless, {"deep": json.loads("[" * 400 + "]" * 400)}]
    rows = list(Questions([Query("Q?", metadata=metadata) for metadata in given]))
    assert [bool(row.problem) for row in rows] == [False, True, True, True]
    assert all("the metadata cannot be written" in row.problem for row in rows[1:])
    path = _jsonl(tmp_path / "q.jsonl", [{"question": "One?", **given[3]}, {"question": "Two?"}])
    assert [bool(row.problem) for row in _rows(path)] == [True, False]


def test_a_large_file_is_not_held_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    with path.open("w") as file:
        file.writelines(json.dumps({"question": f"Number {n}?", "text": "x" * 4000}) + "\n" for n in range(5_000))
    questions = Questions(path)
    tracemalloc.start()
    count = sum(1 for _ in questions)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 5_000
    assert peak < 3_000_000  # the file has 20 MB; what is kept are the ids
