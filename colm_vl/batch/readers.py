"""Readers for the file formats of questions. They yield rows without interpreting them."""

from __future__ import annotations

import ast
import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from string import ascii_uppercase
from types import MappingProxyType
from typing import Any, NamedTuple

from colm_vl.backends import registry
from colm_vl.errors import InputError

_PARQUET_ROWS = 16  # read at a time: a row can contain several megabytes of pictures
_LONGEST_CELL = 1 << 26  # characters of up to four bytes; limits the memory that an unclosed quote takes
_REFERENCE = 64  # a picture cell of at most this many digits is the index of another row
_LONGEST_PATH = 4096
_NOT_UTF8 = "is not UTF-8 text"
_IN_UTF8 = "write it in UTF-8 (iconv -f latin1 -t utf-8)"
_QUOTES = "close every quote, and double quotes inside quoted cells"


class Record(NamedTuple):
    """A row of a file with uninterpreted fields. `problem` is the reason if some of them could not be read."""

    where: str
    fields: Mapping[str, Any] = MappingProxyType({})
    problem: str = ""
    hint: str = ""


Reader = Callable[[Path, str], Iterator[Record]]
"""Yields the rows of a file. The name is that of the column of the questions, without which a table is refused."""


def _jsonl(path: Path, question: str) -> Iterator[Record]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            where = f"{path.name}, line {number}"
            text = line.removeprefix(b"\xef\xbb\xbf").strip()
            if not text:
                continue
            try:
                fields = json.loads(text)
            except UnicodeDecodeError:
                yield Record(where, problem=_NOT_UTF8, hint=_IN_UTF8)
            except ValueError as error:
                said = error.msg if isinstance(error, json.JSONDecodeError) else "a number too long"
                yield Record(where, problem=f"is not valid JSON: {said}", hint="write one JSON object a line")
            except RecursionError:
                yield Record(where, problem="is nested too deeply")
            else:
                if isinstance(fields, dict):
                    yield Record(where, fields)
                else:
                    given = type(fields).__name__
                    yield Record(where, problem=f"is a {given}, expected an object", hint='such as {"question": …}')


def _csv(path: Path, question: str, *, delimiter: str = ",") -> Iterator[Record]:
    # The default of 131,072 characters is too small for pictures as data URIs. The limit is global to the process, so
    # it is only raised, never lowered.
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL))
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        # Strict mode, or an unclosed quote would silently swallow the following lines.
        rows = csv.reader(file, strict=True, delimiter=delimiter)
        try:
            header = next(rows, [])
        except csv.Error as error:
            raise InputError(f"{path.name}, line 1: is not valid CSV: {error}") from None
        if not _is_utf8(header):
            raise InputError(f"{path.name}, line 1: {_NOT_UTF8}", hint=_IN_UTF8)
        _require(path, question, header)
        _refuse_twice(path, header)
        while True:
            begun = rows.line_num + 1
            where = f"{path.name}, line {begun}"
            try:
                cells = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield Record(where, problem=_not_csv(error, begun, rows.line_num), hint=_QUOTES)
                continue
            if not cells:
                continue
            if not _is_utf8(cells):
                yield Record(where, problem=_NOT_UTF8, hint=_IN_UTF8)
            elif len(cells) > len(header):
                yield Record(where, problem=f"has {len(cells)} cells, expected {len(header)}", hint="quote the commas")
            else:
                yield Record(where, dict(zip(header, cells, strict=False)))


def _split(records: Iterable[Record]) -> Iterator[Record]:
    return (record._replace(fields=_cells(dict(record.fields))) for record in records)


def _tsv(path: Path, question: str) -> Iterator[Record]:
    """A table with tabs. One with a column `index` and none `id` has the layout of VLMEvalKit: choices in columns A, B,
    …; pictures in base64, or as the index of another row that has the picture; a `hint` that precedes the question."""
    rows = partial(_csv, path, question, delimiter="\t")
    first = next(rows(), None)
    if first is None or "index" not in first.fields or "id" in first.fields:
        yield from _split(rows())
        return
    shared = {str(record.fields.get("image")) for record in rows() if _refers(record.fields)}
    pictures = {
        str(record.fields["index"]): str(record.fields.get("image", ""))
        for record in rows()
        if record.fields.get("index") in shared and not _refers(record.fields)
    }
    for record in rows():
        image = str(record.fields.get("image", ""))
        if not record.problem and _refers(record.fields) and image not in pictures:
            problem, hint = f"its image is row {image}, which has none", "give the file as it was published"
            yield record._replace(fields=_vlmevalkit(dict(record.fields), {}), problem=problem, hint=hint)
        else:
            yield record if record.problem else record._replace(fields=_vlmevalkit(dict(record.fields), pictures))


def _refers(fields: Mapping[str, Any]) -> bool:
    cell = str(fields.get("image", ""))
    return 0 < len(cell) <= _REFERENCE and cell.isdecimal()


def _vlmevalkit(fields: dict[str, Any], pictures: Mapping[str, str]) -> dict[str, Any]:
    read = {name: cell for name, cell in fields.items() if cell != "" and name not in ("index", "image", "image_path")}
    choices = [read.pop(letter) for letter in ascii_uppercase if letter in read]
    hint = read.pop("hint", "")
    given = str(fields.get("image") or "")
    found = listed(pictures.get(given, given) if _refers(fields) else given) or listed(fields.get("image_path") or "")
    return {
        **read,
        "id": fields["index"],
        "question": f"{hint}\n{read.get('question', '')}" if hint else read.get("question", ""),
        **({"choices": choices} if choices else {}),
        **({"images": [_as_picture(one) for one in found]} if found else {}),
    }


def _as_picture(cell: str) -> str:
    """Base64 as a data URI; a path as it is."""
    is_path = len(cell) <= _LONGEST_PATH and bool(Path(cell).suffix)
    return cell if is_path or cell.startswith("data:") else f"data:image/png;base64,{cell}"


def listed(cell: str) -> list[str]:
    """A cell that holds a list, written as JSON or as Python writes it, or a single text. [] for an empty cell."""
    cell = cell.strip()
    if cell.startswith("[") and cell.endswith("]"):
        for read in (json.loads, ast.literal_eval):
            try:
                found = read(cell)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
            if isinstance(found, list) and all(isinstance(one, str) for one in found):
                return found
    return [cell] if cell else []


def _saved(path: Path, question: str) -> Iterator[Record]:
    """A folder that `datasets` wrote with `save_to_disk`. Its pictures are not decoded here."""
    datasets = registry.require("datasets", "eval")
    try:
        saved = datasets.load_from_disk(str(path))
    except Exception as error:  # datasets raises errors of many kinds for a damaged folder
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path.name}: cannot be read as a saved data set: {said}") from None
    if isinstance(saved, datasets.DatasetDict):
        folders = ", ".join(str(Path(path.name) / name) for name in saved)
        raise InputError(f"{path.name}: holds several splits", hint=f"give the folder of one: {folders}")
    _require(path, question, saved.column_names)
    for name, feature in saved.features.items():
        inner = getattr(feature, "feature", feature)
        if isinstance(inner, datasets.Image):
            raw = datasets.Image(decode=False)
            saved = saved.cast_column(name, raw if inner is feature else type(feature)(raw))
    for number, fields in enumerate(saved, 1):
        yield Record(f"{path.name}, row {number}", fields)


def is_saved(path: Path) -> bool:
    """Whether `datasets` wrote the folder with `save_to_disk`."""
    return any((path / name).is_file() for name in ("state.json", "dataset_dict.json"))


def _require(path: Path, question: str, columns: Sequence[str]) -> None:
    if question not in columns:
        raise InputError(
            f"{path.name}: no column is called {question!r}",
            hint=f"its columns: {', '.join(columns)}; --map question=COLUMN names another",
        )


def _not_csv(error: csv.Error, first: int, last: int) -> str:
    if last <= first:
        return f"is not valid CSV: {error}"
    return f"is not valid CSV: a quote is not closed correctly, so lines {first} to {last} are lost: {error}"


def _refuse_twice(path: Path, columns: Sequence[str]) -> None:
    """Several columns without a name, which spreadsheets often export, are allowed."""
    for name, times in Counter(columns).items():
        if times > 1 and name:
            raise InputError(f"{path.name}: {times} columns are called {name!r}", hint="rename or remove all but one")


def _is_utf8(cells: Iterable[str]) -> bool:
    """Bytes that are not UTF-8 were decoded to lone surrogates."""
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        return False
    return True


def _cells(fields: dict[str, Any]) -> dict[str, Any]:
    """Split cells that hold several pictures or choices: a JSON list, or values separated by `|`."""
    for name in ("image", "images", "choices"):
        cell = fields.get(name, "").strip()
        try:
            fields[name] = json.loads(cell) if cell.startswith("[") else [part.strip() for part in cell.split("|")]
        except ValueError:
            fields[name] = [cell]
        if not cell:
            del fields[name]
    return fields


def _parquet(path: Path, question: str, *, pictures: bool = True) -> Iterator[Record]:
    parquet = registry.require("pyarrow.parquet", "eval")
    arrow = registry.require("pyarrow", "eval")
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            _require(path, question, file.schema_arrow.names)
            _refuse_twice(path, file.schema_arrow.names)
            columns = [name for name in file.schema_arrow.names if pictures or name not in ("image", "images")]
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS, columns=columns):
                for fields in _rows_of(batch):
                    number += 1
                    odd = {name: value for name, value in fields.items() if isinstance(value, _Unreadable)}
                    yield Record(
                        f"{path.name}, row {number}",
                        {name: value for name, value in fields.items() if name not in odd},
                        "; ".join(f"{name!r} cannot be read: {value.reason}" for name, value in odd.items()),
                        "convert the column to a type that Python supports, or to text" if odd else "",
                    )
    except arrow.ArrowException as error:
        said = str(error).splitlines()[0]
        raise InputError(
            f"{path.name}: cannot be read after row {number}: {said}"
            if number
            else f"{path.name}: not a Parquet file: {said}"
        ) from None


@dataclass(frozen=True, slots=True)
class _Unreadable:
    """A cell that cannot be converted to a Python value, such as a date after the year 9999, an unknown time zone, or
    invalid UTF-8."""

    reason: str


def _rows_of(batch: Any) -> Sequence[dict[str, Any]]:
    """The rows of one batch of a Parquet file. If a cell cannot be converted, all cells are converted one by one."""
    try:
        rows: Sequence[dict[str, Any]] = batch.to_pylist()
    except Exception:  # raised by Arrow or by the conversion of dates, time zones or text
        columns = {name: [_cell(cell) for cell in batch.column(name)] for name in batch.schema.names}
        return [{name: cells[row] for name, cells in columns.items()} for row in range(batch.num_rows)]
    return rows


def _cell(cell: Any) -> Any:
    try:
        return cell.as_py()
    except Exception as error:
        return _Unreadable(" ".join(str(error).split()) or type(error).__name__)


def _csv_split(path: Path, question: str) -> Iterator[Record]:
    return _split(_csv(path, question))


READERS: Mapping[str, Reader] = MappingProxyType(
    {".jsonl": _jsonl, ".ndjson": _jsonl, ".csv": _csv_split, ".tsv": _tsv, ".parquet": _parquet}
)
SAVED: Reader = _saved
# Readers that skip the pictures, for counting questions.
HEADS: Mapping[Reader, Reader] = MappingProxyType({_parquet: partial(_parquet, pictures=False)})
