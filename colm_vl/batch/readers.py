"""Readers for the file formats of questions. They yield rows without interpreting them."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from colm_vl.backends import registry
from colm_vl.errors import InputError

_PARQUET_ROWS = 16  # read at a time: a row can contain several megabytes of pictures
_LONGEST_CELL = 1 << 26  # characters of up to four bytes; limits the memory that an unclosed quote takes
_NOT_UTF8 = "is not UTF-8 text"
_IN_UTF8 = "write it in UTF-8 (iconv -f latin1 -t utf-8)"
_QUOTES = "close every quote, and double quotes inside quoted cells"


class Record(NamedTuple):
    """A row of a file with uninterpreted fields. `problem` is the reason if some of them could not be read."""

    where: str
    fields: Mapping[str, Any] = MappingProxyType({})
    problem: str = ""
    hint: str = ""


Reader = Callable[[Path], Iterator[Record]]


def _jsonl(path: Path) -> Iterator[Record]:
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


def _csv(path: Path) -> Iterator[Record]:
    # The default of 131,072 characters is too small for pictures as data URIs. The limit is global to the process, so
    # it is only raised, never lowered.
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL))
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        # Strict mode, or an unclosed quote would silently swallow the following lines.
        rows = csv.reader(file, strict=True)
        try:
            header = next(rows, [])
        except csv.Error as error:
            raise InputError(f"{path.name}, line 1: is not valid CSV: {error}") from None
        if not _is_utf8(header):
            raise InputError(f"{path.name}, line 1: {_NOT_UTF8}", hint=_IN_UTF8)
        if "question" not in header:
            raise InputError(f"{path.name}: no column is called 'question'", hint=f"its columns: {', '.join(header)}")
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
                yield Record(where, _cells(dict(zip(header, cells, strict=False))))


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


def _parquet(path: Path, *, pictures: bool = True) -> Iterator[Record]:
    parquet = registry.require("pyarrow.parquet", "eval")
    arrow = registry.require("pyarrow", "eval")
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
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


READERS: Mapping[str, Reader] = MappingProxyType(
    {".jsonl": _jsonl, ".ndjson": _jsonl, ".csv": _csv, ".parquet": _parquet}
)
# Readers that skip the pictures, for counting questions.
HEADS: Mapping[Reader, Reader] = MappingProxyType({_parquet: partial(_parquet, pictures=False)})
