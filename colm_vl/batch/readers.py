"""The kinds of files that questions are read from, row by row, as they stand there."""

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

_PARQUET_ROWS = 16  # at a time: a row may hold several megabytes of pictures
_LONGEST_CELL = 1 << 26  # characters, of four bytes each: what a quote that is never closed may take of memory
_NOT_UTF8 = "is not UTF-8 text"
_IN_UTF8 = "write it in UTF-8 (iconv -f latin1 -t utf-8)"
_QUOTES = "close every quote, and double those inside of quoted cells"


class Record(NamedTuple):
    """A row of a file before its fields are looked at. `problem` tells why not all of them could be read."""

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
    # The standard library's 131,072 characters are fewer than a picture takes as a data URI. The limit is the whole
    # process's, so it is only ever raised.
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL))
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        # Strict: a quote that is not closed would else take the following lines, or all of them, into its cell.
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
    return f"is not valid CSV: a quote is not closed as it should be, so that lines {first} to {last} are lost: {error}"


def _refuse_twice(path: Path, columns: Sequence[str]) -> None:
    """Columns without a name, as spreadsheets leave them, may be several."""
    for name, times in Counter(columns).items():
        if times > 1 and name:
            raise InputError(f"{path.name}: {times} columns are called {name!r}", hint="rename or remove all but one")


def _is_utf8(cells: Iterable[str]) -> bool:
    """Bytes that are not were read as lone surrogates, which nothing can write."""
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        return False
    return True


def _cells(fields: dict[str, Any]) -> dict[str, Any]:
    """Several pictures or choices in one cell: a JSON list, or separated by `|`."""
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
                        "write the column in a type that Python has, or as text" if odd else "",
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
    """A cell for which Python has no value: a date after the year 9999, an unknown time zone, text that is none."""

    reason: str


def _rows_of(batch: Any) -> Sequence[dict[str, Any]]:
    """Of one batch of a Parquet file; cell by cell where one of them cannot be read."""
    try:
        rows: Sequence[dict[str, Any]] = batch.to_pylist()
    except Exception:  # Arrow's, or of whatever makes the value: dates, zones, codecs
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
# To count questions, a file's pictures need not be read.
HEADS: Mapping[Reader, Reader] = MappingProxyType({_parquet: partial(_parquet, pictures=False)})
