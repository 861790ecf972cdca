"""docs/service.md lists what there is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from colm_vl.service.options import ColmOptions
from colm_vl.service.settings import Settings

DOCS = (Path(__file__).parents[2] / "docs" / "service.md").read_text()


def settings(table: BaseModel, prefix: str = "") -> Iterator[str]:
    for name, field in type(table).model_fields.items():
        value = getattr(table, name)
        if isinstance(value, BaseModel):
            yield from settings(value, f"{prefix}{name}.")
        else:
            yield f"| `{prefix}{name}` | {field.description} |"


def test_all_settings_and_options_are_described() -> None:
    assert [row for row in settings(Settings()) if row not in DOCS] == []
    assert [name for name in ColmOptions.model_fields if f"`{name}`" not in DOCS] == []
