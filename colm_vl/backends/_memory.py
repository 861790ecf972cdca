"""Estimates the memory that a local model needs, from its configuration. No weights are read, nothing is downloaded.

The estimate follows what transformers does: weights are mapped from their file if they are used as saved; the keys and
values of a batch grow by one token at a time, each time into new memory; a vision tower processes the pictures of a
batch together, before the text model begins.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, get_args

from colm_vl.backends.base import Footprint, Memory, Message, Quantization, Request
from colm_vl.backends.registry import require
from colm_vl.errors import BackendError, ColmError, LoadFailed, ModelNotFound
from processors import families
from processors.families import Budget, FamilyError, Source

if TYPE_CHECKING:
    from colm_vl.backends._loading import Options

logger = logging.getLogger(__name__)

# Bytes per weight for scales: bitsandbytes stores one byte per 64 weights, and 4 bytes per 256 of these.
_NF4_SCALES = 1 / 64 + 4 / (64 * 256)

# Tensors that exist at the same time in a layer, for each token: those of the MLP in the model's dtype, those of norms
# and rotary embeddings in float32. Scores of the vocabulary: as computed, in float32, logarithms, those drawn from.
_MLP_TENSORS, _FLOAT32_TENSORS, _SCORES = 3, 4, 4
_BESIDES = 12_000_000
"""Bytes of a model's tokenizer, grammars and buffers, as measured."""


def estimate(options: Options) -> Memory | None:
    """None if the configuration is not on this machine, or if no model can be built from it."""
    try:
        model = _Model.of(options)
        return Memory(round(model.weights(options)), _free(options, model.torch))
    except ColmError:
        return None  # loading the model gives a better error message


def footprint(options: Options, request: Request) -> Footprint:
    """Raises `BackendError` if the configuration or the processor is not on this machine, or cannot be used."""
    model = _Model.of(options)
    encoded = model.encode(request, options)
    text = model.config.get_text_config(decoder=True)
    tokens = encoded.tokens + request.sampling.max_tokens
    context = min(filter(None, (options.context, getattr(text, "max_position_embeddings", None))), default=tokens)
    tokens = min(tokens, context)
    key_values = _key_value_bytes(text, tokens, model.itemsize)
    seeing = model.activations(model.vision, encoded.patches) + 4 * encoded.pixel_values
    reading = model.activations(text, min(encoded.tokens, tokens)) + 4 * _SCORES * text.vocab_size
    keeps = encoded.resumable and options.keep_mb > 0
    return Footprint(
        weights={each: round(model.weights(options.model_copy(update=_with(each)))) for each in get_args(Quantization)},
        quantization=options.quantization or "none",
        besides=_BESIDES,
        tokens=tokens,
        picture_tokens=encoded.picture_tokens,
        key_values=key_values,
        seeing=round(seeing),
        reading=round(reading),
        kept=key_values if keeps else 0,
        kept_at_most=options.keep_mb * 2**20,
        saved=model.saved_bytes(options) if model.converts(options) else 0,
        on_gpu=_on_gpu(options, model.torch),
        free=_free(options, model.torch),
    )


@dataclass(frozen=True, slots=True)
class _Encoded:
    """What a request becomes: its tokens, those of its pictures, the patches of its pictures, and numbers of pixels."""

    tokens: int
    picture_tokens: int
    patches: int
    pixel_values: int
    resumable: bool


@dataclass(frozen=True, slots=True)
class _Model:
    """A model on the meta device."""

    config: Any
    model: Any
    saved_dtype: Any
    source: Source
    torch: ModuleType

    @classmethod
    def of(cls, options: Options) -> _Model:
        from colm_vl.backends import _loading

        require("accelerate", "local")
        torch = require("torch", "local")
        transformers = require("transformers", "local")
        try:
            with _loading.LOADING:
                config = _loading.local_config(options, transformers)
                saved = getattr(config, "dtype", None) or torch.float32
                model = _loading.without_weights(config, options, torch, transformers)
        except ColmError:
            raise
        except OSError:
            raise _absent(options, "its config.json") from None
        except Exception as error:  # invalid configurations make transformers raise exceptions of any type
            logger.debug("no estimate for %s", options.model, exc_info=True)
            raise LoadFailed(
                f"model {options.model!r}: no model can be built from its configuration ({type(error).__name__})",
                hint="try the checkpoint with transformers",
            ) from None
        return cls(config, model, saved, _loading.local_source(options), torch)

    @property
    def itemsize(self) -> int:
        size: int = self.model.dtype.itemsize
        return size

    @property
    def vision(self) -> Any:
        return getattr(self.config, "vision_config", None)

    def weights(self, options: Options) -> float:
        from accelerate.utils import CustomDtype, compute_module_sizes

        from colm_vl.backends import _loading

        quantized = _loading.quantized_layers(self.model, options, self.torch)
        kind = CustomDtype.INT4 if options.quantization == "nf4" else "int8"
        special = {f"{name}.weight": kind for name in quantized}
        size: float = compute_module_sizes(self.model, special_dtypes=special)[""]
        for name in quantized:
            rows, columns = self.model.get_submodule(name).weight.shape
            # int8: one scale per row
            size += rows * columns * _NF4_SCALES if options.quantization == "nf4" else rows * 4
        return size

    def encode(self, request: Request, options: Options) -> _Encoded:
        from colm_vl.backends._batch import conversation_of
        from colm_vl.backends._loading import takes_pictures

        try:
            budget = Budget(options.min_pixels, options.max_pixels)
            family = families.load(self.config, self.source, budget, sees=takes_pictures(self.config))
            family.tokenizer.model_max_length = sys.maxsize  # no warning: the estimate is capped at the context
            inputs = family.encode([conversation_of(request if family.sees else _without_pictures(request))])
        except FamilyError as error:
            raise LoadFailed(f"model {options.model!r}: {error}", hint=error.hint) from None
        except OSError:
            raise _absent(options, "its processor") from None
        ids, pixels = inputs["input_ids"], inputs.get("pixel_values")
        count = 0 if pixels is None else pixels.numel()
        return _Encoded(
            tokens=ids.numel(),
            picture_tokens=0 if family.picture_token is None else int((ids == family.picture_token).sum()),
            patches=count // _patch_values(self.vision) if count else 0,
            pixel_values=count,
            resumable=family.resumable,
        )

    def activations(self, config: Any, tokens: int) -> float:
        """Bytes of the tensors of one layer. `config` is that of the text model or of the vision tower, or None."""
        if config is None or not tokens:
            return 0
        hidden = getattr(config, "embed_dim", None) or config.hidden_size
        wide = getattr(config, "intermediate_size", None) or hidden * getattr(config, "mlp_ratio", 4)
        return float(tokens * (_MLP_TENSORS * wide * self.itemsize + _FLOAT32_TENSORS * hidden * 4))

    def converts(self, options: Options) -> bool:
        """Whether loading makes other tensors of those in the file."""
        return options.quantization is not None or self.model.dtype != self.saved_dtype

    def saved_bytes(self, options: Options) -> int:
        """The size of the files with the weights, 0 if they are not on this machine."""
        folder = Path(self.source.model)
        if not folder.is_dir():
            hub = require("huggingface_hub", "local")
            try:
                folder = Path(hub.snapshot_download(options.model, revision=options.revision, local_files_only=True))
            except OSError:
                return 0
        return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def _with(quantization: Quantization) -> Mapping[str, str | None]:
    return {"quantization": None if quantization == "none" else quantization}


def _without_pictures(request: Request) -> Request:
    texts = [
        Message(message.role, tuple(part for part in message.parts if isinstance(part, str)))
        for message in request.messages
    ]
    return replace(request, messages=tuple(texts))


def _patch_values(vision: Any) -> int:
    """The number of values of one patch."""
    values: int = 3 * vision.patch_size**2 * (getattr(vision, "temporal_patch_size", None) or 1)
    return values


def _key_value_bytes(text: Any, tokens: int, itemsize: int) -> int:
    """Layers with a sliding window keep that many tokens."""
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    window = getattr(text, "sliding_window", None) or tokens
    kinds = getattr(text, "layer_types", None) or ["full_attention"] * text.num_hidden_layers
    kept = sum(min(tokens, window) if kind == "sliding_attention" else tokens for kind in kinds)
    return int(2 * kept * heads * size * itemsize)


def _absent(options: Options, what: str) -> BackendError:
    return ModelNotFound(
        f"model {options.model!r}: {what} is not on this machine, so its memory is unknown",
        hint=f"download it first (hf download {options.model})",
    )


def _on_gpu(options: Options, torch: ModuleType) -> bool:
    return options.device != "cpu" and bool(torch.cuda.is_available())


def _free(options: Options, torch: ModuleType) -> int:
    """Free bytes on the accelerators that the model may use, or in main memory."""
    import psutil

    if not _on_gpu(options, torch):
        return int(psutil.virtual_memory().available)
    device = options.device
    if device.startswith("cuda:"):
        return int(torch.cuda.mem_get_info(device)[0])
    count = 1 if device == "cuda" else torch.cuda.device_count()
    return sum(int(torch.cuda.mem_get_info(index)[0]) for index in range(count))
