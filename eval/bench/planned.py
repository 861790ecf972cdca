"""Compares the memory that `colm-vl team plan` expects with what models take, with larger random weights."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from colm_vl.pocket import team_file

from .figures import Figure
from .peak import peak

TOLERANCE = 0.2

_HEAD = 64
_LAYERS, _WIDTH = 16, 768
_VISION_LAYERS, _VISION_WIDTH = 8, 640
_FEWEST, _MOST = 3136, 1_003_520
"""The pixels to which pictures are resized."""


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
    """Save a wider and deeper copy of a model of the pocket team, with random weights. It never ends a reply by itself.
    Returns its number of parameters."""
    import torch
    import transformers

    source = team_file().parent / "weights" / "shapes"
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((folder / "config.json").read_text())
    config["text_config"] |= {
        "hidden_size": _WIDTH,
        "intermediate_size": 4 * _WIDTH,
        "num_hidden_layers": _LAYERS,
        "layer_types": ["full_attention"] * _LAYERS,
        "num_attention_heads": _WIDTH // _HEAD,
        "num_key_value_heads": _WIDTH // _HEAD // 2,
        "max_position_embeddings": 32768,
    }
    config["text_config"]["rope_parameters"]["mrope_section"] = [8, 12, 12]
    config["vision_config"] |= {
        "hidden_size": _VISION_WIDTH,
        "intermediate_size": 3 * _VISION_WIDTH,
        "num_heads": _VISION_WIDTH // 80,
        "depth": _VISION_LAYERS,
        "fullatt_block_indexes": [_VISION_LAYERS - 1],
        "out_hidden_size": _WIDTH,
    }
    (folder / "config.json").write_text(json.dumps(config))
    processor = json.loads((folder / "preprocessor_config.json").read_text())
    processor |= {"size": {"shortest_edge": _FEWEST, "longest_edge": _MOST}, "min_pixels": _FEWEST, "max_pixels": _MOST}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    model = transformers.AutoModelForImageTextToText.from_config(
        transformers.AutoConfig.from_pretrained(folder), dtype=torch.float32
    )
    generation = json.loads((folder / "generation_config.json").read_text())
    model.save_pretrained(folder)
    generation["suppress_tokens"] = [generation["eos_token_id"]]
    (folder / "generation_config.json").write_text(json.dumps(generation))
    return sum(weight.numel() for weight in model.parameters())
