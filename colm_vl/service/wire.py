"""JSON as it is sent: in ASCII, because models can write halves of surrogate pairs, which UTF-8 cannot encode."""

from __future__ import annotations

import json
from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel
from typing_extensions import override


class Json(JSONResponse):
    @override
    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def as_json(value: BaseModel, *, exclude_none: bool = False) -> str:
    return json.dumps(value.model_dump(exclude_none=exclude_none), separators=(",", ":"))
