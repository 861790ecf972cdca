"""Estimates the memory that a local model's weights need, from its configuration. No weights are read."""

from __future__ import annotations

import logging
from types import ModuleType
from typing import TYPE_CHECKING, Any

from colm_vl.backends.base import Memory
from colm_vl.backends.registry import require
from colm_vl.errors import ColmError

if TYPE_CHECKING:
    from colm_vl.backends._loading import Options

logger = logging.getLogger(__name__)

# Bytes per weight for scales: bitsandbytes stores one byte per 64 weights, and 4 bytes per 256 of these.
_NF4_SCALES = 1 / 64 + 4 / (64 * 256)


def estimate(options: Options) -> Memory | None:
    """None if the configuration is not on this machine, or if no model can be built from it."""
    from colm_vl.backends import _loading

    try:
        require("accelerate", "local")
        torch = require("torch", "local")
        transformers = require("transformers", "local")
        with _loading.LOADING:
            model = _loading.without_weights(options, torch, transformers)
            weights = _bytes(model, _loading.quantized_layers(model, options, torch), options)
        return Memory(round(weights), _free(options, torch))
    except ColmError:
        return None  # loading the model gives a better error message
    except Exception:  # invalid configurations make transformers raise exceptions of any type
        logger.debug("no estimate for %s", options.model, exc_info=True)
        return None


def _bytes(model: Any, quantized: frozenset[str], options: Options) -> float:
    from accelerate.utils import CustomDtype, compute_module_sizes

    kind = CustomDtype.INT4 if options.quantization == "nf4" else "int8"
    size: float = compute_module_sizes(model, special_dtypes={f"{name}.weight": kind for name in quantized})[""]
    for name in quantized:
        rows, columns = model.get_submodule(name).weight.shape
        size += rows * columns * _NF4_SCALES if options.quantization == "nf4" else rows * 4  # int8: one scale per row
    return size


def _free(options: Options, torch: ModuleType) -> int:
    """Free bytes on the accelerators that the model may use, or in main memory."""
    import psutil

    device = options.device
    if device == "cpu" or not torch.cuda.is_available():
        return int(psutil.virtual_memory().available)
    if device.startswith("cuda:"):
        return int(torch.cuda.mem_get_info(device)[0])
    count = 1 if device == "cuda" else torch.cuda.device_count()
    return sum(int(torch.cuda.mem_get_info(index)[0]) for index in range(count))
