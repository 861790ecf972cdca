"""Versions of the JSON schema of a `Trace`.

1: A verdict was a call of the stage `guide`, a failure of the whole question had the member "", and images were called
   pictures.
2: `verdict` is a separate stage, and `Failure.member` is None if the question as a whole failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from colm_vl.errors import InputError

SCHEMA_VERSION = 2


def upgraded(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The record in the current schema. Raises `InputError` if its schema is unknown."""
    version = data.get("schema_version")
    if version not in range(1, SCHEMA_VERSION + 1):
        raise InputError(
            f"trace of schema {version!r}, expected 1 to {SCHEMA_VERSION}",
            hint="read it with the version that wrote it",
        )
    return _from_schema_1(data) if version == 1 else data


def _from_schema_1(data: Mapping[str, Any]) -> dict[str, Any]:
    answers = str(data.get("strategy", "")) in ("server", "verdict", "moa")

    def renamed(row: Any) -> Any:
        if not isinstance(row, Mapping):
            return row  # reported by the validation that follows
        stage = "verdict" if answers and row.get("stage") == "guide" else row.get("stage")
        member = row.get("member") or None
        sent = {"sent": images_for_pictures(row["sent"])} if isinstance(row.get("sent"), Mapping) else {}
        return {**row, "stage": stage, "member": member, **sent}

    def images_for_pictures(row: Mapping[str, Any]) -> dict[str, Any]:
        return {("images" if name == "pictures" else name): value for name, value in row.items()}

    changed = {
        name: [renamed(row) for row in data[name]] for name in ("calls", "failures") if isinstance(data.get(name), list)
    }
    return {**images_for_pictures(data), **changed, "schema_version": SCHEMA_VERSION}
