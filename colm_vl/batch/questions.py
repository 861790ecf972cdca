"""Questions from JSONL, CSV and Parquet files, read row by row, and from `Query` and `Row` objects.

A row has the field `question` and, optionally, `id`, `images` (or `image`) and `choices`; all other fields become
metadata. An unusable row carries a description of its problem, with file and line, and does not affect other rows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

from pydantic import TypeAdapter

from colm_vl.batch.readers import HEADS, READERS, SAVED, Reader, Record, is_saved
from colm_vl.batch.shards import Shard
from colm_vl.errors import InputError
from colm_vl.types import EarlierTurn, Query, Trace
from processors.images import Image, ImageSource
from processors.sources import is_path

Source: TypeAlias = "str | os.PathLike[str] | Iterable[Query | Row] | RayDataset"


class RayDataset(Protocol):
    """A `ray.data.Dataset`, or what has its method."""

    def iter_rows(self) -> Iterable[Mapping[str, Any]]: ...


_METADATA = TypeAdapter(dict[str, Any])
_KNOWN = frozenset({"id", "question", "image", "images", "choices"})
_UNIQUE = "give every question a unique id; the default is the row's number"
_KINDS = f"a file ({', '.join(READERS)}), a folder of save_to_disk, or an iterable of Query"


@dataclass(frozen=True, slots=True)
class Row:
    """A question with unopened pictures. `where` names file and line. `problem` is the reason if it cannot be asked.

    `number` is its place in the source, from 1, in a batch that is divided into shards, and 0 otherwise.
    """

    id: str
    where: str
    question: str = ""
    choices: tuple[str, ...] = ()
    pictures: tuple[ImageSource, ...] = field(default=(), repr=False)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
    hint: str = ""
    history: tuple[EarlierTurn, ...] = ()
    number: int = field(default=0, compare=False)

    def query(self, images: Iterable[Image]) -> Query:
        """A `Query` with the opened pictures. Raises `InputError` if it is invalid."""
        return Query(self.question, tuple(images), self.choices, self.id, self.metadata, self.history)

    def is_of(self, trace: Trace) -> bool:
        """Whether the trace has this question, with its choices and earlier turns. Pictures are compared elsewhere:
        they are not open."""
        return (self.question, self.choices, self.history) == (trace.question, trace.choices, trace.history)


def read_columns(written: str) -> dict[str, str]:
    """`{"question": "query"}` from "question=query". Raises `InputError`."""
    columns = {}
    for part in filter(None, (part.strip() for part in written.split(","))):
        field, equals, column = (side.strip() for side in part.partition("="))
        if not equals or not field or not column:
            raise InputError(f"{part!r} maps no field to a column", hint="such as question=query,images=picture")
        columns[field] = column
    return columns


class Survey(NamedTuple):
    """The number of questions, and the number of those that cannot be asked, as far as the file alone shows.

    `exact` is False for a shard of a file with pictures, which are not read to count: the numbers are then the average
    of a shard.
    """

    total: int
    unusable: int
    exact: bool = True


class Questions:
    """The first `limit` questions of a source, or those of them in `shard`.

    Raises `InputError` if a file cannot be read.

    `columns` maps the fields of a question to columns of the file that have other names: `{"question": "query"}`.

    Each iteration starts from the first question, unless the source itself is an iterator. `passed` counts the
    questions that it has read, also those of other shards.
    """

    def __init__(
        self,
        source: Source,
        *,
        limit: int | None = None,
        columns: Mapping[str, str] | None = None,
        shard: Shard | None = None,
    ) -> None:
        self._limit = limit
        self.shard = shard
        self.passed = 0
        unknown = [name for name in columns or () if name not in _KNOWN]
        if unknown:
            raise InputError(f"{unknown[0]!r} is no field of a question", hint=f"one of: {', '.join(sorted(_KNOWN))}")
        self._source: _File | Iterable[Query | Row]
        if isinstance(source, str | os.PathLike):
            path = Path(source)
            self._source, self.name = _File(path, _reader(path), columns or {}), path.name
        elif columns:
            raise InputError("columns are given for questions that are not in a file", hint="leave them out")
        elif hasattr(source, "iter_rows"):  # a Dataset of Ray
            self._source, self.name = _Rows(source), "a dataset"
        elif isinstance(source, Iterable):
            self._source, self.name = source, "an iterable"
        else:
            raise InputError(f"questions cannot be read from a {type(source).__name__}", hint=_KINDS)

    @property
    def path(self) -> Path | None:
        """The file, if the source is one."""
        return self._source.path if isinstance(self._source, _File) else None

    @property
    def columns(self) -> Mapping[str, str]:
        """The columns of the file that have other names than their fields, by field."""
        return self._source.columns if isinstance(self._source, _File) else {}

    @property
    def of_file(self) -> bool:
        return isinstance(self._source, _File)

    @property
    def is_repeatable(self) -> bool:
        """Whether they can be iterated over several times."""
        return isinstance(self._source, _File | _Rows | Sequence)

    @property
    def limited(self) -> bool:
        """Whether there is a limit, so that the source may have more questions."""
        return self._limit is not None

    def __iter__(self) -> Iterator[Row]:
        rows = islice(self._all(), self._limit)
        return rows if self.shard is None else self._own(rows, self.shard)

    def repeatable(self) -> Questions:
        """Questions that can be iterated over several times. Those of an iterator are kept in memory."""
        if not isinstance(self._source, _File) and not isinstance(self._source, Sequence):
            return Questions(list(islice(self._source, self._limit)), limit=self._limit, shard=self.shard)
        return self

    def survey(self) -> Survey | None:
        """Read a whole file and count; None if the source is not a file. Raises `InputError` if an id occurs twice."""
        if not isinstance(self._source, _File):
            return None
        total = unusable = 0
        heads = replace(self._source, read=HEADS.get(self._source.read, self._source.read))
        exact = self.shard is None or heads == self._source
        rows = islice(_unique(heads.rows()), self._limit)
        for row in rows if self.shard is None or not exact else self._own(rows, self.shard):
            total += 1
            unusable += bool(row.problem)
        if self.shard is None or exact:
            return Survey(total, unusable)
        return Survey(round(total / self.shard.count), round(unusable / self.shard.count), exact=False)

    def checked(self) -> Iterator[Row]:
        """The rows, like an iteration, but an id that occurs twice is a problem of its row, and raises nothing."""
        return islice(_repeats_marked(self._rows()), self._limit)

    def _own(self, rows: Iterable[Row], shard: Shard) -> Iterator[Row]:
        self.passed = 0
        folder = self.path.parent if self.path is not None and not self.path.is_dir() else self.path
        for self.passed, row in enumerate(rows, 1):
            if shard.holds(row, folder):
                yield replace(row, number=self.passed)

    def _all(self) -> Iterator[Row]:
        return _unique(self._rows())

    def _rows(self) -> Iterator[Row]:
        return self._source.rows() if isinstance(self._source, _File) else map(_given, enumerate(self._source, 1))


def _unique(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows. Raises `InputError` at an id that occurred before."""
    first: dict[str, str] = {}
    for row in rows:
        if repeated := _repeated(row, first):
            raise InputError(f"{row.where}: {repeated}", hint=_UNIQUE)
        yield row


def _repeats_marked(rows: Iterable[Row]) -> Iterator[Row]:
    first: dict[str, str] = {}
    for row in rows:
        repeated = _repeated(row, first)
        yield replace(row, problem=repeated, hint=_UNIQUE) if repeated and not row.problem else row


def _repeated(row: Row, first: dict[str, str]) -> str:
    """The problem of a row whose id occurred before, or "". Adds the id of others to `first`."""
    before = first.setdefault(row.id, row.where)
    return "" if before is row.where else f"the id {row.id!r} was used before, in {before}"


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    read: Reader
    columns: Mapping[str, str]

    def rows(self) -> Iterator[Row]:
        folder = self.path if self.path.is_dir() else self.path.parent
        absent, found = set(self.columns.values()), dict[str, None]()
        try:
            for number, record in enumerate(self.read(self.path, self.columns.get("question", "question")), 1):
                if absent:
                    absent -= record.fields.keys()
                    found.update(dict.fromkeys(record.fields))
                yield _row(self._renamed(record), number, folder)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read ({error.strerror or error})") from None
        if absent and found:
            raise InputError(
                f"{self.path.name}: no column is called {min(absent)!r}", hint=f"its columns: {', '.join(found)}"
            )

    def _renamed(self, record: Record) -> Record:
        if not self.columns:
            return record
        given = {column: field for field, column in self.columns.items()}
        # A column that has the name of a mapped field, and is not it, is one of the others.
        kept = {name: value for name, value in record.fields.items() if name in given or name not in self.columns}
        return record._replace(fields={given.get(name, name): value for name, value in kept.items()})


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of a `ray.data.Dataset`. Each iteration executes it again."""

    dataset: Any

    def __iter__(self) -> Iterator[Row]:
        for number, fields in enumerate(self.dataset.iter_rows(), 1):
            yield row_of(fields, number)


def row_of(fields: Mapping[str, Any], number: int) -> Row:
    """The question in a mapping with the fields of a file's row. Lists may be arrays."""
    plain = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in fields.items()}
    return _row(Record(f"row {number}", plain), number, Path())


def _reader(path: Path) -> Reader:
    if is_saved(path):
        return SAVED
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path.name}: unknown kind of file {path.suffix!r}", hint=f"questions are read from {_KINDS}")
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        raise InputError(f"{path}: {what}", hint="give the path of the file with the questions")
    return reader


# --- parsing of fields ---


def _row(record: Record, number: int, folder: Path) -> Row:
    fields = record.fields
    metadata: Mapping[str, Any] = {}
    try:
        if record.problem:
            raise InputError(record.problem, hint=record.hint)
        metadata = _metadata({name: value for name, value in fields.items() if name not in _KNOWN})
        question = fields.get("question")
        if not isinstance(question, str) or not question.strip():
            given = "is missing" if question is None else f"is {_short(question)}, expected a text"
            raise InputError(f"the question {given}", hint='every row needs a "question"')
        return Row(
            _id(fields.get("id"), number),
            record.where,
            question,
            _choices(fields.get("choices")),
            _pictures(fields, folder),
            metadata,
        )
    except InputError as error:
        question = fields.get("question")
        asked = question if isinstance(question, str) else ""
        return Row(
            _id_of_unusable(record, number),
            record.where,
            asked,
            metadata=metadata,
            problem=str(error),
            hint=error.hint,
        )


def _id(value: object, number: int) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        return str(number)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InputError(f"the id is {_short(value)}, expected a text or a whole number")
    return str(value)


def _id_of_unusable(record: Record, number: int) -> str:
    given = record.fields.get("id")
    if record.problem and given is None:
        return f"row {number}"  # its number alone might be another row's id
    try:
        return _id(given, number)
    except InputError:
        return f"row {number}"


def _choices(value: object) -> tuple[str, ...]:
    if value is None or value == "":
        return ()
    if not isinstance(value, list) or not all(isinstance(choice, str | int | float) for choice in value):
        raise InputError(f"choices are {_short(value)}, expected a list of texts")
    return tuple(str(choice) for choice in value)


def _pictures(fields: Mapping[str, Any], folder: Path) -> tuple[ImageSource, ...]:
    given = [fields[name] for name in ("image", "images") if fields.get(name) not in (None, "", [])]
    if len(given) > 1:
        raise InputError("both image and images are given", hint="list all pictures in images")
    several = given[0] if given and isinstance(given[0], list) else given
    return tuple(_picture(one, folder) for one in several)


def _picture(value: object, folder: Path) -> ImageSource:
    """A path, a data URI, or a value of the Hugging Face `Image` feature, of which the bytes take precedence over the
    path."""
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str) or not value.strip():
        hint = "relative paths start at the folder of the file"
        raise InputError(f"a picture is {_short(value)}, expected a path", hint=hint)
    return str(folder / value) if is_path(value) else value


def _metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata as plain JSON. Values that JSON does not have (dates, NaN) become text; bytes are replaced by their
    number, since they may be large. Raises `InputError` for keys that are not strings and for circular references.
    """
    if not metadata:
        return {}
    try:
        text = json.dumps(dict(metadata), default=lambda v: f"{len(v)} bytes" if isinstance(v, bytes) else str(v))
        plain: dict[str, Any] = json.loads(text, parse_constant=str)
        _METADATA.dump_python(plain, mode="json")  # a trace is dumped this way, which allows less nesting than json
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"the metadata cannot be written: {error}", hint="use plain JSON values") from None
    return plain


def _given(numbered: tuple[int, Query | Row]) -> Row:
    number, query = numbered
    if isinstance(query, Row):
        return query
    if not isinstance(query, Query):
        raise InputError(f"question {number} is a {type(query).__name__}, expected a Query")
    id_, where = query.id or str(number), f"question {number}"
    row = Row(id_, where, query.question, query.choices, query.images, history=query.history)
    try:
        return replace(row, metadata=_metadata(query.metadata))
    except InputError as error:
        return replace(row, pictures=(), problem=str(error), hint=error.hint)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
