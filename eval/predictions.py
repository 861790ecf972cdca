"""Reads predictions: files of model replies in the published formats, and the answers of our own runs."""

from __future__ import annotations

import filecmp
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from colm_vl.batch import ANSWERS
from colm_vl.batch.shards import files
from colm_vl.errors import InputError

from .dataset import Row, Source, json_lines, open_rows, read_json
from .exchange import registry
from .exchange.matching import matched
from .tsv import cells
from .types import Item, Reply, letters

_IDS = ("id", "pid", "question_id", "questionId", "index", "data_id")
_REPLIES = ("response", "model_outputs", "generated_text", "output", "prediction", "predict", "parsed_pred", "pred")
"""In order of preference: MMLU-Pro's files have `pred` beside the reply in `model_outputs` or `generated_text`."""
_QUESTION = frozenset({"question", "options", "choices", "answer", "hint", "A", "choice_a"})
"""If one of these columns is present, `text` is the question."""
_BESIDE_ANSWER = frozenset(
    {
        *_IDS, "answer", "choice", "all_choices", "index2ans", "dataset_name", "strategy", "confidence", "clients",
        "degraded", "error", "prompt", "model", "model_id", "answer_id", "metadata",
    }
)  # fmt: skip
"""If any other column is present, `answer` may be the gold answer."""
_GOLD = frozenset({"", "answer", "answers", "answer_index", "text", "label", "ground_truth", "solution"})
"""Columns that are not replies when predictions and gold are the same file."""
_DRAWS = ("official_index", "stored_index")


def read_predictions(
    path: Path, strategy: str = "", *, column: str = "", gold: Path | None = None, items: Sequence[Item] = ()
) -> dict[str, Reply]:
    """Read replies by question id. `strategy` selects one if a run has several. `items` are needed for the logs of
    other harnesses, which may number the questions instead.

    Accepts the files of other harnesses (`exchange`); a folder of `<Subject>/output.json` (MMMU's example outputs) or a
    run folder; JSON: id → reply, subject → rows, a list of rows, or ScienceQA's `outputs` and `results`; JSON Lines;
    TSV and CSV. In rows, the reply is in `column`, by default the first known column present. Raises `InputError` for
    anything else, for a duplicate id, and if the replies would be the answers of the `gold` file.
    """
    found: dict[str, Reply] = {}
    known = None if column else registry.of(path)
    for key, reply in matched(known.read(path), items, path) if known else _pairs(path, strategy, column):
        if key in found:
            raise InputError(f"{path}: two predictions for {key!r}", hint="give one prediction per question")
        found[key] = reply
    if not found:
        raise InputError(f"{path}: no predictions", hint="expected rows with an id and a response")
    columns = {reply.column for reply in found.values()}
    if column and columns != {column}:
        raise InputError(f"{path}: has no columns to choose from", hint="leave --reply-column out")
    if gold is not None and columns & _GOLD and _is_same(path, gold):
        raise InputError(
            f"{path}: these are the gold answers, not predictions", hint="give the file with the model's replies"
        )
    return found


def strategies_in(path: Path) -> tuple[str, ...]:
    """The strategies of a batch folder. ("",) for predictions that do not come from strategies."""
    return tuple(dict.fromkeys(str(row.get("strategy", "")) for row in _rows_of_run(path))) or ("",)


def _rows_of_run(folder: Path) -> Sequence[Mapping[str, Any]]:
    """The answers of a run, including those of shards that are not merged yet."""
    rows = [row for path in files(folder, ANSWERS) for row in json_lines(path)]
    return list({(row.get("id"), row.get("strategy")): row for row in reversed(rows)}.values())[::-1]


def _is_same(path: Path, gold: Path) -> bool:
    """The same file, or a copy of it."""
    if not path.is_file() or not gold.is_file():
        return path.exists() and gold.exists() and path.samefile(gold)
    return path.samefile(gold) or filecmp.cmp(path, gold, shallow=False)


def _pairs(path: Path, strategy: str, column: str) -> Iterator[tuple[str, Reply]]:
    if not path.exists():
        raise InputError(f"no such file or folder: {path}", hint="give the predictions with --predictions")
    if path.is_dir():
        return _folder(path, strategy, column)
    if path.suffix == ".json":
        return _json(read_json(path), path, column)
    if path.suffix == ".jsonl":
        return _from_rows(json_lines(path), path, column)
    if path.suffix in (".tsv", ".csv"):
        return _from_rows(cells(path, hidden=("image",)), path, column)
    return _from_rows(open_rows(Source(path, ""), ()), path, column)


def _folder(path: Path, strategy: str, column: str) -> Iterator[tuple[str, Reply]]:
    outputs = sorted(path.glob("*/output.json"))
    if outputs:
        for output in outputs:
            yield from _json(read_json(output), output, column)
        return
    if not files(path, ANSWERS):
        raise InputError(
            f"{path}: no predictions in this folder", hint=f"expected <Subject>/output.json, or {ANSWERS} of a run"
        )
    yield from _own(path, strategy)


def _own(path: Path, strategy: str) -> Iterator[tuple[str, Reply]]:
    """The answers of a run, of one or several strategies."""
    rows = _rows_of_run(path)
    strategies = list(dict.fromkeys(str(row.get("strategy", "")) for row in rows))
    if strategy and strategy not in strategies:
        raise InputError(f"{path}: no answers of strategy {strategy!r}", hint=f"one of: {', '.join(strategies)}")
    if not strategy and len(strategies) > 1:
        raise InputError(
            f"{path}: answers of {len(strategies)} strategies", hint=f"choose with --strategy: {', '.join(strategies)}"
        )
    for row in rows:
        if not strategy or row.get("strategy") == strategy:
            yield str(row["id"]), Reply(str(row.get("choice") or row.get("answer") or ""), settled=True)


def _json(data: Any, path: Path, column: str) -> Iterator[tuple[str, Reply]]:
    if isinstance(data, list):
        return _from_rows(data, path, column)
    if not isinstance(data, dict) or not data:
        raise InputError(f"{path}: expected predictions by id, or rows", hint="see `colm-vl eval score --help`")
    if isinstance(data.get("outputs"), dict):
        return _scienceqa(data, path)
    if all(isinstance(row, dict) for row in data.values()):
        return _from_rows(({"id": key, **row} for key, row in data.items()), path, column)
    if all(isinstance(rows, list) for rows in data.values()):
        return _from_rows((row for rows in data.values() for row in rows), path, column)
    if all(isinstance(text, str | int | float | None) for text in data.values()):
        return ((str(key), Reply("" if text is None else str(text))) for key, text in data.items())
    raise InputError(f"{path}: expected a text for every id", hint="id → reply, subject → rows, or a list of rows")


def _scienceqa(data: Mapping[str, Any], path: Path) -> Iterator[tuple[str, Reply]]:
    """The official result file: `outputs` holds the replies, `results` the indexes parsed from them."""
    stored = data.get("results") or {}
    if not isinstance(stored, Mapping):
        raise InputError(
            f"{path}: `results` is a {type(stored).__name__}, expected id → index", hint="leave it out, or correct it"
        )
    for key, text in data["outputs"].items():
        yield str(key), Reply(str(text), stored_draw=_drawn(stored.get(key)))


def _from_rows(rows: Iterable[Any], path: Path, column: str) -> Iterator[tuple[str, Reply]]:
    """All rows have their reply in the same column. An empty cell there is an empty reply."""
    table = [_checked(row, number, path) for number, row in enumerate(rows, 1)]
    reply = _reply_column(list(dict.fromkeys(name for row in table for name in row)), path, column)
    for number, row in enumerate(table, 1):
        key = _key(row)
        if key is None or not reply:
            raise InputError(
                f"{path}, row {number}: needs an id ({', '.join(_IDS)}) and a reply ({', '.join(_REPLIES)})",
                hint=f"found {', '.join(row)}; --reply-column names another",
            )
        text = row.get(reply)
        options = row.get("index2ans") or {}
        yield (
            str(key),
            Reply(
                # In MMMU-Pro's files, a failed call is an object with the error; the script parses nothing from it.
                "" if text is None or isinstance(text, Mapping) else str(text),
                options=tuple(map(str, options.values())),
                stored_draw=next((_drawn(row[name]) for name in _DRAWS if name in row), None),
                column=reply,
            ),
        )


def _reply_column(columns: Sequence[str], path: Path, asked: str) -> str:
    """The column that holds the replies, or "". Never one that may hold the gold answers, unless it is `asked` for."""
    if asked and asked not in columns:
        raise InputError(f"{path}: no column {asked!r}", hint=f"--reply-column takes one of: {', '.join(columns)}")
    found = asked or next((name for name in _REPLIES if name in columns), "")
    if not found and "text" in columns and _QUESTION.isdisjoint(columns):
        return "text"
    if not found and "answer" in columns:
        if _BESIDE_ANSWER.issuperset(columns):
            return "answer"
        raise InputError(
            f"{path}: the column `answer` may hold the gold answers; found {', '.join(columns)}",
            hint="name the column that holds the replies with --reply-column",
        )
    return found


def _checked(row: Any, number: int, path: Path) -> Row:
    if not isinstance(row, Mapping):
        raise InputError(
            f"{path}, row {number}: {str(row)[:40]!r} is not a row", hint="expected an object with an id and a reply"
        )
    options = row.get("index2ans") or {}
    if not isinstance(options, Mapping):
        raise InputError(
            f"{path}, row {number}: index2ans is a {type(options).__name__}, expected letter → option",
            hint="leave it out, or give it as published",
        )
    return row


def _key(row: Row) -> Any:
    key = next((row[name] for name in _IDS if row.get(name) not in (None, "")), None)
    # OCRBench numbers its questions separately in each of its data sets.
    return f"{row['dataset_name']}_{key}" if row.get("dataset_name") and key is not None else key


def _drawn(index: Any) -> str | None:
    """The letter stored for a reply; "" for -1, which means that no choice was made; None if nothing is stored."""
    known = letters(26)
    if isinstance(index, str) and index.lstrip("-").isdecimal():  # cells of a table are strings
        index = int(index)
    return (known[index] if 0 <= index < len(known) else "") if isinstance(index, int) else None
