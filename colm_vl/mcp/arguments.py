"""The arguments of the tool `ask`, and the schema that clients are told."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from colm_vl.errors import InputError
from colm_vl.types import MAX_CHOICES

Picture = str | Mapping[str, Any]
"""A path, a data URI, base64, or image content of MCP, which has base64 in `data`."""

_BASE64 = re.compile(r"[A-Za-z0-9+/\s_-]{64,}={0,2}\s*")
"""Paths of pictures are shorter, or have a dot."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    pictures: list[Any] = Field(default_factory=list)

    @field_validator("pictures", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        return given if isinstance(given, list) else [] if given is None else [given]


class Turn(_Table):
    role: Literal["user", "assistant"]
    text: str


class Arguments(_Table):
    question: str
    choices: list[str] = Field(default_factory=list)
    history: list[Turn] = Field(default_factory=list)


def read(given: Mapping[str, Any]) -> Arguments:
    """Raises `InputError`, without the values, since these can be whole pictures."""
    try:
        return Arguments.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{where}: {first['msg'][0].lower()}{first['msg'][1:]}", hint="see the schema of the tool"
        ) from None


def data_uri(picture: Picture) -> str | None:
    """The picture as a data URI; None if it is a path or a web address. Raises `InputError` if it is neither."""
    if isinstance(picture, Mapping):
        data = picture.get("data")
        if not isinstance(data, str):
            raise InputError("a picture is an object without data", hint='such as {"type": "image", "data": BASE64}')
        return data if data[:5].lower() == "data:" else f"data:;base64,{data}"
    if not isinstance(picture, str):
        raise InputError(
            f"a picture is of type {type(picture).__name__}", hint="expected a text, or image content with base64"
        )
    if picture[:5].lower() == "data:":
        return picture
    return f"data:;base64,{picture}" if _BASE64.fullmatch(picture) else None


def schema(*, paths: bool) -> dict[str, Any]:
    """The arguments as a JSON Schema without references, which not all clients follow. `paths`: whether pictures can be
    files of this machine."""
    forms = ("the path of a file, " if paths else "") + "a data URI, or image content with base64"
    picture = {
        "anyOf": [
            {"type": "string"},
            {
                "type": "object",
                "properties": {
                    "type": {"const": "image"}, "data": {"type": "string"}, "mimeType": {"type": "string"},
                },
                "required": ["data"],
            },
        ]
    }  # fmt: skip
    pictures = {"type": "array", "items": picture, "description": f"JPEG, PNG, WebP, GIF or BMP; each as {forms}"}
    turn = {
        "type": "object",
        "properties": {
            "role": {"enum": ["user", "assistant"]},
            "text": {"type": "string"},
            "pictures": {**pictures, "description": "those that came with this turn"},
        },
        "required": ["role", "text"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {
            "question": {"type": "string", "description": "one question"},
            "pictures": pictures,
            "choices": {
                "type": "array",
                "items": {"type": "string"},
                "maxItems": MAX_CHOICES,
                "description": "for a multiple-choice question, the texts of its choices",
            },
            "history": {
                "type": "array",
                "items": turn,
                "description": "for a follow-up question, the earlier questions and answers",
            },
        },
        "required": ["question"],
        "additionalProperties": False,
    }
