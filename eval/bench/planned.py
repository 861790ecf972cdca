"""Compares the memory that `colm-vl team plan` expects with what models take, with larger random weights."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from . import random_model
from .figures import Figure
from .peak import peak

TOLERANCE = 0.2


class _Case(NamedTuple):
    name: str
    options: dict[str, Any]
    requests: int
    tokens: int
    side: int


_CASES = (
    _Case("float32", {}, 4, 64, 448),
    _Case("float32, one large picture", {}, 1, 8, 1000),
    _Case("bfloat16 from float32", {"dtype": "bfloat16"}, 4, 64, 448),
    _Case("nf4", {"quantization": "nf4"}, 2, 8, 224),
    _Case("int8", {"quantization": "int8"}, 2, 8, 224),
)


def planned() -> Sequence[Figure]:
    """Peaks of resident memory, each in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        parameters = _save(Path(folder) / "model")
        return [_figure(case, Path(folder) / "model", parameters) for case in _CASES]


def _figure(case: _Case, model: Path, parameters: int) -> Figure:
    measured = partial(peak, {"model": str(model)} | case.options, case.requests, case.tokens, case.side)
    found, kept = measured(), ""
    if "quantization" in case.options:
        kept = f" ({found.measured / 1e6:,.0f} MB if the C library keeps what is freed, as it does by default)"
        found = measured(returns_freed=True)
    return Figure(
        f"memory of a local model, planned compared with measured: {case.name}",
        f"{found.error:+.0%}",
        f"within {TOLERANCE:.0%}",
        abs(found.error) <= TOLERANCE,
        f"planned {found.planned / 1e6:,.0f} MB, resident memory grew by {found.measured / 1e6:,.0f} MB{kept}; "
        f"a Qwen2.5-VL with {parameters / 1e6:.0f} million random weights on the CPU, requests at the same time: "
        f"{case.requests}, each with a picture of {case.side} × {case.side} and two replies of {case.tokens} tokens",
    )


def _save(folder: Path) -> int:
    """Save a model that never ends a reply by itself, and return its number of parameters."""
    parameters = random_model.write(folder, hidden=768, layers=16)
    file = folder / "generation_config.json"
    generation = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps(generation | {"suppress_tokens": [generation["eos_token_id"]]}), "utf-8")
    return parameters
