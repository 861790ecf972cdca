"""Estimates of the memory that a local model's weights need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from colm_vl.backends.scripted import Options as ScriptedOptions
from colm_vl.backends.transformers import Options
from tests.backends.local import Connect, loaded

torch = pytest.importorskip("torch", reason="local models need the extra 'local'", exc_type=ImportError)


def taken(model: Any) -> int:
    """The bytes of the loaded weights, including the scales of quantized ones."""
    size = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    for weight in model.parameters():
        if (state := getattr(weight, "quant_state", None)) is not None:
            size += state.absmax.nbytes + (state.state2.absmax.nbytes if state.nested else 0)
        elif (scales := getattr(weight, "SCB", None)) is not None:
            size += scales.nbytes
    return size


@pytest.mark.parametrize("settings", [{}, {"dtype": "bfloat16"}, {"quantization": "nf4"}, {"quantization": "int8"}])
@pytest.mark.parametrize("kind", ["qwen2_5_vl", "llava"])
async def test_the_estimate_equals_the_memory_of_the_weights(
    connect: Connect, kind: str, settings: dict[str, Any]
) -> None:
    if "quantization" in settings:
        pytest.importorskip("bitsandbytes", reason="quantization needs the extra 'quant'", exc_type=ImportError)
    backend = connect(kind, **settings)
    estimated = backend._options.memory()
    assert estimated is not None
    assert estimated.weights == pytest.approx(taken((await loaded(backend)).model), rel=0.02)
    assert estimated.free > 2**20


def test_estimating_needs_no_weights(tiny: Any, tmp_path: Path) -> None:
    config = (tiny("qwen2_5_vl") / "config.json").read_bytes()
    (tmp_path / "config.json").write_bytes(config)
    estimated, whole = Options(model=str(tmp_path)).memory(), Options(model=str(tiny("qwen2_5_vl"))).memory()
    assert estimated is not None
    assert whole is not None
    assert estimated.weights == whole.weights


@pytest.mark.parametrize("model", ["someone/model-that-is-not-cached", "/no/such/folder"])
def test_missing_models_are_not_estimated(model: str) -> None:
    assert Options(model=model).memory() is None


def test_an_invalid_configuration_is_not_estimated(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen2_5_vl", "text_config": 7}', encoding="utf-8")
    assert Options(model=str(tmp_path)).memory() is None


def test_endpoints_take_no_memory() -> None:
    assert ScriptedOptions.model_validate({"model": "m", "replies": ["yes"]}).memory() is None
