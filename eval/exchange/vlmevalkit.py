"""VLMEvalKit's file of predictions: the data set's table with a column `prediction`.

Source: open-compass/VLMEvalKit, commit e8e78f05, `vlmeval/smp/file.py` and `vlmeval/inference.py`. The toolkit reads
and writes xlsx (its default), tsv and json, by `PRED_FORMAT`. Written here is tsv, in which a long reply is not cut.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typing_extensions import override

from colm_vl.errors import InputError
from colm_vl.extras import require

from ..dataset import Row, listed, read_json
from ..slug import slug
from ..tsv import cells
from .base import Answered, Format, Logged, StrategyAnswers

_COLUMNS = frozenset({"index", "prediction"})
_FAILURE = "Failed to obtain answer"
"""In the prediction of a failed call, which the toolkit makes again."""


class VLMEvalKit(Format):
    note = "VLMEvalKit's table of predictions"
    source = "open-compass/VLMEvalKit, commit e8e78f05"

    @override
    def write(self, answers: StrategyAnswers, folder: Path) -> list[Path]:
        path = folder / f"colm-vl-{slug(answers.strategy)}_{slug(answers.benchmark)}.tsv"
        rows = [_row(one) for one in answers.answers]
        require("pandas", "eval").DataFrame(rows).to_csv(
            path, sep="\t", index=False, encoding="utf-8", quoting=csv.QUOTE_ALL
        )
        return [path]

    @override
    def recognizes(self, path: Path) -> bool:
        if path.suffix not in (".xlsx", ".tsv", ".json"):
            return False
        return path.suffix == ".xlsx" or _COLUMNS.issubset(next(_rows(path), {}))

    @override
    def read(self, path: Path) -> Iterator[Logged]:
        for row in _rows(path):
            if not _COLUMNS.issubset(row):
                raise InputError(
                    f"{path}: no columns index and prediction; found {', '.join(row)}",
                    hint="give VLMEvalKit's file of predictions, not that of its scores",
                )
            text = str(row["prediction"])
            yield Logged(
                str(row.get("id") or row["index"]),
                None,
                "" if _FAILURE in text else text,
                str(row.get("question", "")),
                tuple(str(one) for one in listed(row.get("answer"))),
            )


def _row(answered: Answered) -> dict[str, Any]:
    item = answered.item
    return {
        **item.groups,  # first, since a group may be called `answer`
        "index": item.id,
        "question": item.question,
        **dict(zip(item.letters, item.options, strict=True)),
        "answer": item.gold[0] if len(item.gold) == 1 else str(list(item.gold)),
        "prediction": answered.reply or f"{_FAILURE} via API.",
    }


def _rows(path: Path) -> Iterator[Row]:
    if path.suffix == ".tsv":
        return cells(path, hidden=("image",))
    if path.suffix == ".json":
        data = read_json(path)
        return iter(data if isinstance(data, list) and all(isinstance(row, dict) for row in data) else ())
    require("openpyxl", "eval")
    try:
        table = require("pandas", "eval").read_excel(path, dtype=str, keep_default_na=False)
    except (ValueError, OSError, KeyError):
        raise InputError(f"{path}: not an Excel file", hint="the download may be incomplete") from None
    return iter(table.to_dict("records"))


FORMAT = VLMEvalKit()
