"""Reads TSV and CSV as VLMEvalKit writes them: images in base64, or the index of the row that holds the image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from colm_vl.errors import InputError
from colm_vl.extras import require

_REFERENCE = 64
"""An image cell of at most this many characters is the index of the row that holds the image."""


def delimited_rows(path: Path, hidden: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """Rows without their empty cells, with references to images of other rows replaced by the images.

    Streams the file: only images that other rows refer to are kept in memory.
    """
    referred = {str(row["image"]) for row in _filled(path, hidden) if _refers(row)} if "image" not in hidden else set()
    kept: dict[str, str] = {}
    for row in _filled(path, hidden):
        if row.get("index") in referred and not _refers(row):
            kept[row["index"]] = row.get("image", "")
        if _refers(row):
            if row["image"] not in kept:
                raise InputError(
                    f"{path}: row {row.get('index')} refers to the image of row {row['image']}, not an earlier row",
                    hint="give the file as it was published",
                )
            row["image"] = kept[row["image"]]
        yield row


def _refers(row: Mapping[str, str]) -> bool:
    return 0 < len(row.get("image", "")) <= _REFERENCE and row["image"].isdecimal()


def _filled(path: Path, hidden: Sequence[str]) -> Iterator[dict[str, str]]:
    return ({name: value for name, value in row.items() if value != ""} for row in cells(path, hidden))


def cells(path: Path, hidden: Sequence[str] = ()) -> Iterator[dict[str, str]]:
    """Rows with every column of the header, empty cells included."""
    pandas = require("pandas", "eval")
    try:
        # Read everything as text, and only empty cells as missing: an option may be "None" or "NA".
        with pandas.read_csv(
            path,
            sep="\t" if path.suffix == ".tsv" else ",",
            dtype=str,
            keep_default_na=False,
            chunksize=32,
            usecols=lambda name: name not in hidden,
        ) as chunks:
            for chunk in chunks:
                for row in chunk.to_dict("records"):
                    yield {str(name): value for name, value in row.items()}
    except (ValueError, UnicodeDecodeError):
        raise InputError(f"{path}: not a table", hint=f"expected {path.suffix[1:].upper()} in UTF-8") from None
