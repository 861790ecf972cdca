"""Reads the rows of a benchmark from its published files.

Formats: a folder of Parquet as on the Hugging Face hub, `save_to_disk` of `datasets`, VLMEvalKit's TSV, JSON and JSON
Lines. Without a path, rows come from the hub through `datasets`; with a path, nothing is downloaded.
"""

from __future__ import annotations

import ast
import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from colm_vl.batch.readers import READERS
from colm_vl.errors import InputError
from colm_vl.extras import require

from .tsv import delimited_rows

Row = Mapping[str, Any]

_TABLES = (".parquet", ".tsv", ".csv", ".jsonl", ".json")
_SHARD = re.compile(r"^(?P<split>.+?)-\d{5}-of-\d{5}(?:-[0-9a-f]+)?$")


@dataclass(frozen=True, slots=True)
class Source:
    """Where the rows come from.

    `configs` are configurations on the hub, and sub-folders of a local folder. `subjects` are the requested ones, or
    none for all. Without `images`, image columns are not read. `also` holds other names of the split. `columns` maps
    the fields of one's own questions to columns with other names.
    """

    path: Path | None
    split: str
    hub: str = ""
    configs: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    images: bool = True
    also: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path | None:
        """The folder that image paths are relative to."""
        return self.path.parent if self.path is not None and self.path.is_file() else self.path

    @property
    def label(self) -> str:
        return str(self.path) if self.path else f"{self.hub} on the hub"


def open_rows(
    source: Source, required: Sequence[str], *, named: Sequence[str] = (), image_columns: Sequence[str] = ()
) -> Iterator[Row]:
    """Yield the rows, after checking that each has the required columns.

    `question|text` requires either of the two. Columns in `named` are only required in the first row. Raises
    `InputError` for a path without data, an unknown split, or missing columns.
    """
    hidden = () if source.images else tuple(image_columns)
    tables = _hub(source, hidden) if source.path is None else _path(source.path, source, hidden)
    for table in tables:
        for number, row in enumerate(table.rows, 1):
            check_columns(row, required if number > 1 else (*required, *named), where=f"{table.name}, row {number}")
            yield row


def check_columns(row: Row, required: Sequence[str], *, where: str) -> None:
    missing = [name.replace("|", " or ") for name in required if not any(one in row for one in name.split("|"))]
    if missing:
        raise InputError(
            f"{where}: missing column{'s' if len(missing) > 1 else ''} {', '.join(missing)}; found {', '.join(row)}",
            hint="give the file as it was published, or rename its columns",
        )


@dataclass(frozen=True, slots=True)
class _Table:
    name: str
    rows: Iterable[Row]


def _path(path: Path, source: Source, hidden: Sequence[str]) -> Iterator[_Table]:
    if not path.exists():
        raise InputError(f"no such file or folder: {path}", hint="check the path")
    if path.is_file():
        yield _Table(str(path), _file(path, hidden))
        return
    if (path / "dataset_dict.json").exists() or (path / "state.json").exists():
        yield from _saved(path, source, hidden)
        return
    files = _files_of_split(path, source)
    for file in files:
        yield _Table(str(file), _file(file, hidden))


def _files_of_split(folder: Path, source: Source) -> list[Path]:
    """The data files of a folder that belong to the requested split and configurations."""
    files = sorted(file for file in folder.rglob("*") if file.suffix in _TABLES and not _is_hidden(file, folder))
    files = [file for file in files if file.suffix == ".parquet"] or files
    if not files:
        raise InputError(
            f"{folder}: no data in this folder",
            hint=f"expected files that end in {', '.join(_TABLES)}, or saved_to_disk",
        )
    splits = {file: _split_of(file) for file in files}
    # If some files are named for the split, a file without a split in its name holds something else.
    names = (source.split, *source.also)
    chosen = [file for file in files if splits[file] in names] or [file for file in files if not splits[file]]
    if not chosen:
        raise InputError(
            f"{folder}: no split {source.split!r}; found {', '.join(sorted(set(splits.values())))}",
            hint="choose one of them with --split",
        )
    by_config = {name: [f for f in chosen if name in f.relative_to(folder).parts[:-1]] for name in source.configs}
    if not any(by_config.values()):
        # A folder with one configuration and no sub-folders.
        parts = sorted({str(file.parent.relative_to(folder)) for file in chosen})
        if len(parts) > 1:
            raise InputError(
                f"{folder}: data in {len(parts)} folders: {', '.join(parts[:5])}", hint="give one of them with --data"
            )
        return chosen
    absent = [name for name, found in by_config.items() if not found]
    if absent:
        raise InputError(
            f"{folder}: no folder for {', '.join(absent)}", hint="choose among the existing ones with --subjects"
        )
    return [file for found in by_config.values() for file in found]


def _is_hidden(file: Path, folder: Path) -> bool:
    """Downloads may leave a cache beside the data. Also true for anything that is not a file."""
    return not file.is_file() or any(part.startswith(".") for part in file.relative_to(folder).parts)


def _split_of(file: Path) -> str:
    """`validation` for `validation-00000-of-00001.parquet` and `validation.parquet`; "" for a name without a split."""
    shard = _SHARD.match(file.stem)
    if shard:
        return shard["split"]
    return file.stem if file.stem in {"train", "dev", "validation", "val", "test"} else ""


def _file(path: Path, hidden: Sequence[str]) -> Iterator[Row]:
    match path.suffix:
        case ".parquet":
            return _parquet(path, hidden)
        case ".tsv" | ".csv":
            return delimited_rows(path, hidden)
        case ".jsonl":
            return json_lines(path)
        case ".json":
            return iter(_listed_rows(read_json(path), path))
    raise InputError(f"{path}: unknown file type", hint=f"expected one of {', '.join(_TABLES)}")


def _parquet(path: Path, hidden: Sequence[str]) -> Iterator[Row]:
    pyarrow, parquet = require("pyarrow", "eval"), require("pyarrow.parquet", "eval")
    try:
        file = parquet.ParquetFile(path)
    except (pyarrow.ArrowInvalid, OSError):
        raise InputError(f"{path}: not a Parquet file", hint="the download may be incomplete") from None
    columns = [name for name in file.schema_arrow.names if name not in hidden]
    for batch in file.iter_batches(batch_size=32, columns=columns):
        yield from batch.to_pylist()


def json_lines(path: Path) -> Iterator[Row]:
    """Raises `InputError`, with the line number, for a line that is not a JSON object in UTF-8."""
    for record in READERS[".jsonl"](path, "question"):
        if record.problem:
            raise InputError(f"{path.parent / record.where}: {record.problem}", hint="write one JSON object per line")
        yield record.fields


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"no such file: {path}", hint="check the path") from None
    except (ValueError, RecursionError, OSError):
        raise InputError(f"{path}: cannot be read as JSON", hint="the download may be incomplete") from None


def _listed_rows(data: Any, path: Path) -> list[Row]:
    """Rows in a list, in the list `questions` or `data` of an object, or by their ids."""
    if isinstance(data, dict):
        data = next((data[name] for name in ("questions", "data") if isinstance(data.get(name), list)), data)
    if isinstance(data, dict) and data and all(isinstance(row, dict) for row in data.values()):
        data = [{"id": key, **row} for key, row in data.items()]
    if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
        raise InputError(f"{path}: expected a list of objects", hint="give the benchmark's file as it was published")
    return data


def _saved(path: Path, source: Source, hidden: Sequence[str]) -> Iterator[_Table]:
    """A folder written by `save_to_disk`: one data set, or one per split."""
    datasets = require("datasets", "eval")
    saved = datasets.load_from_disk(str(path))
    if isinstance(saved, datasets.DatasetDict):
        name = next((name for name in (source.split, *source.also) if name in saved), None)
        if name is None:
            raise InputError(
                f"{path}: no split {source.split!r}; found {', '.join(saved)}", hint="choose one of them with --split"
            )
        saved = saved[name]
    yield _Table(str(path), _undecoded(saved, hidden))


def _hub(source: Source, hidden: Sequence[str]) -> Iterator[_Table]:
    datasets = require("datasets", "eval")
    for config in source.configs or (None,):
        try:
            table = datasets.load_dataset(source.hub, config, split=source.split)
        except Exception as error:
            # The hub client raises dozens of types: no network, unknown split, gated, disk full.
            raise InputError(
                f"{source.label}: cannot be loaded ({type(error).__name__})",
                hint="download it elsewhere, and give the folder with --data",
            ) from error
        yield _Table(source.hub, _undecoded(table, hidden))


def _undecoded(table: Any, hidden: Sequence[str]) -> Iterator[Row]:
    """Rows with images as bytes or paths, since `processors.images` decodes them."""
    datasets = require("datasets", "eval")
    table = table.remove_columns([name for name in table.column_names if name in hidden])
    for name, feature in table.features.items():
        if isinstance(feature, datasets.Image):
            table = table.cast_column(name, datasets.Image(decode=False))
    return iter(table)


def images_in(row: Row, columns: Sequence[str], *, folder: Path | None = None) -> tuple[bytes | Path, ...]:
    """The images of a row, unopened, in the order of `columns`. Empty columns are skipped.

    Accepts the hub's `{"bytes", "path"}`, bytes, base64, and paths relative to `folder`.
    """
    found: list[bytes | Path] = []
    for column in columns:
        value = row.get(column)
        for one in value if isinstance(value, list) else listed(value) if _is_list_text(value) else [value]:
            if one is None or one == "":
                continue
            found.append(_picture(one, column, folder))
    return tuple(found)


def beside(folder: Path, name: str, *containers: str) -> Path:
    """The path of file `name`: in `folder`, or in one of the folders `containers` inside or beside it."""
    places = [folder / name, *(place / one / name for one in containers for place in (folder, folder.parent))]
    return next((place for place in places if place.exists()), places[0])


def official_files(source: Source, patterns: Mapping[str, str]) -> list[Source]:
    """One source for each file of the split that is named as its authors named it, if the path is a folder with such
    files; else the source itself. `patterns` are the names by split, with wildcards."""
    pattern = patterns.get(source.split)
    if source.path is None or not source.path.is_dir() or pattern is None:
        return [source]
    return [replace(source, path=file) for file in sorted(source.path.rglob(pattern))] or [source]


def _picture(value: Any, column: str, folder: Path | None) -> bytes | Path:
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return value
    if isinstance(value, str) and value.startswith("data:"):
        value = value.partition(",")[2]
    elif isinstance(value, str) and (column.endswith("path") or Path(value[-8:]).suffix):
        return (folder or Path()) / value
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except binascii.Error:
            pass
    raise InputError(f"column {column}: expected an image, got {type(value).__name__}", hint="bytes, base64 or a path")


def _is_list_text(value: Any) -> bool:
    return isinstance(value, str) and value[:1] == "[" and value[-1:] == "]"


def listed(value: Any) -> list[Any]:
    """A list, or a list written as a string, as several benchmarks publish it. [] for an empty value."""
    if value is None or value == "":
        return []
    if _is_list_text(value):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            value = [value]
    return list(value) if isinstance(value, list | tuple) else [value]


def options_in(row: Row) -> tuple[str, ...]:
    """The options of a row: a list in `options` or `choices`, or columns `A`, `B`, … or `choice_a`, `choice_b`, …"""
    for name in ("options", "choices"):
        if row.get(name):
            return tuple(str(option) for option in listed(row[name]))
    cells = [row.get(letter, row.get(f"choice_{letter.lower()}")) for letter in ascii_uppercase]
    filled = [number for number, cell in enumerate(cells, 1) if cell not in (None, "")]
    # An empty option between others keeps its letter, so that the gold letter stays valid.
    return tuple("" if cell is None else str(cell) for cell in cells[: max(filled, default=0)])


__all__ = [
    "Row",
    "Source",
    "beside",
    "check_columns",
    "images_in",
    "json_lines",
    "listed",
    "official_files",
    "open_rows",
    "options_in",
    "read_json",
]
