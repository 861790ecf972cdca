"""Loads a checkpoint, from a folder or the Hugging Face hub, as a model with its family."""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator
from typing_extensions import override

from colm_vl.backends import base
from colm_vl.backends._grammar import Grammars
from colm_vl.backends._letters import LetterTokens
from colm_vl.backends._memory import estimate, footprint
from colm_vl.backends.registry import require
from colm_vl.errors import BackendError, ColmError, LoadFailed, ModelNotFound, Refused, Unreachable
from processors.families import Budget, Family, FamilyError, Source

logger = logging.getLogger(__name__)

# While loading a model, transformers changes global settings, such as torch's default dtype.
LOADING = threading.Lock()


class Options(base.Options):
    """`model` is a folder or a Hugging Face hub id."""

    in_process: ClassVar[bool] = True
    neutral = frozenset({"max_batch", "keep_mb", "batch_wait"})

    model: str = Field(
        min_length=1, description="a Hugging Face hub id, or a folder: absolute, or relative to the team file"
    )
    revision: str | None = Field(default=None, description="branch, tag or commit on the hub")
    offline: bool = Field(default=False, description="use only files on this machine")
    quantization: Literal["nf4", "int8"] | None = Field(
        default=None, description="quantize the weights when they are loaded; needs the extra 'quant'"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="number format of the weights; auto: as saved"
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:0, mps, or a device map of accelerate")
    attention: Literal["sdpa", "eager", "flash_attention_2"] | None = Field(
        default=None, description="implementation of attention; that of transformers if not set"
    )
    min_pixels: int | None = Field(
        default=None, ge=1, description="smaller pictures are enlarged to this size (Qwen-VL only)"
    )
    max_batch: int = Field(default=8, ge=1, description="maximum number of requests in a batch")
    keep_mb: int = Field(default=256, ge=0, description="memory of the prefix cache in MB; 0: no cache")
    batch_wait: float = Field(default=0.01, ge=0, le=10, description="seconds that a request waits for others")

    @override
    def memory(self) -> base.Memory | None:
        return estimate(self)

    @override
    def footprint(self, request: base.Request) -> base.Footprint | None:
        return footprint(self, request)

    @model_validator(mode="after")
    def _a_budget(self) -> Options:
        if self.min_pixels is not None and self.max_pixels is not None and self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels {self.min_pixels} is above max_pixels {self.max_pixels}")
        return self


@dataclass(frozen=True, slots=True)
class LocalModel:
    """`context` is in tokens, None if the checkpoint does not say. `stops` are the ids that end a reply. `grammars` are
    for its own thread."""

    name: str
    model: Any
    family: Family
    context: int | None
    stops: frozenset[int]
    detail: str
    letters: LetterTokens
    grammars: Grammars


def load(options: Options) -> LocalModel:
    """Load the weights, and download them the first time, which can take long.

    Raises `MissingPackage`, `ModelNotFound`, `Refused`, `Unreachable`, `LoadFailed`.
    """
    with LOADING:
        torch = require("torch", "local")
        transformers = require("transformers", "local")
        source = Source(_place(options.model), options.revision, options.offline)
        started = time.monotonic()
        logger.info("loading %s", options.model)
        try:
            with _bars_on_a_terminal(transformers):
                loaded = _open(options, source, torch, transformers)
        except FamilyError as error:
            raise LoadFailed(f"model {options.model!r}: {error}", hint=error.hint) from error
        except ColmError:
            raise
        except Exception as error:
            raise _explained(error, options, source, torch) from error
        logger.info("loaded %s in %.1f s", options.model, time.monotonic() - started)
        return loaded


def out_of_memory(error: BaseException, torch: ModuleType) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)


def forget_locals(error: BaseException) -> None:
    """Clear the local variables of the error's tracebacks, which would keep a partly loaded model in memory."""
    for link in _chain(error):
        traceback.clear_frames(link.__traceback__)


def _open(options: Options, source: Source, torch: ModuleType, transformers: ModuleType) -> LocalModel:
    from processors import families

    config = transformers.AutoConfig.from_pretrained(source.model, **source.options())
    head = _head(config, options, transformers)
    sees = head is transformers.AutoModelForImageTextToText
    family = families.load(config, source, Budget(options.min_pixels, options.max_pixels), sees=sees)
    placing = _placing(options, torch)
    model = head.from_pretrained(
        source.model,
        config=config,
        dtype=options.dtype,
        attn_implementation=options.attention,
        quantization_config=_quantization(options, torch, transformers, partial(_empty, head, config)),
        **placing,
        **source.options(),
    ).eval()
    _plain_decoding(model.generation_config)
    stops = _stops(model.generation_config, family.tokenizer)
    return LocalModel(
        name=options.model,
        model=model,
        family=family,
        context=_context(config, options.context),
        stops=stops,
        detail=", ".join(filter(None, (config.model_type, str(model.device), options.quantization))),
        letters=LetterTokens(family.tokenizer),
        grammars=Grammars(family.tokenizer, config.get_text_config(decoder=True).vocab_size, stops),
    )


def _head(config: Any, options: Options, transformers: ModuleType) -> Any:
    """The class that makes a model of this configuration."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if takes_pictures(config):
        return transformers.AutoModelForImageTextToText
    if config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return transformers.AutoModelForCausalLM
    raise LoadFailed(
        f"model {options.model!r} is of type {config.model_type!r}, expected one that writes text",
        hint="use an image-text-to-text or a causal language model",
    )


def takes_pictures(config: Any) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    return config.model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES


def local_source(options: Options) -> Source:
    """The checkpoint, as far as it is on this machine."""
    return Source(_place(options.model), options.revision, offline=True)


def local_config(options: Options, transformers: ModuleType) -> Any:
    """The configuration, if it is on this machine: nothing is downloaded."""
    source = local_source(options)
    return transformers.AutoConfig.from_pretrained(source.model, **source.options())


def without_weights(config: Any, options: Options, torch: ModuleType, transformers: ModuleType) -> Any:
    """The model on the meta device."""
    kept = getattr(config, "dtype", None) or torch.float32
    dtype = kept if options.dtype == "auto" else getattr(torch, options.dtype)
    return _empty(_head(config, options, transformers), config, torch, dtype=dtype)


def quantized_layers(model: Any, options: Options, torch: ModuleType) -> frozenset[str]:
    """The layers of `model` that loading replaces by quantized ones."""
    if options.quantization is None:
        return frozenset()
    head = model.get_output_embeddings()
    linear = {name for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear) and layer is not head}
    return frozenset(linear - (set() if _placing(options, torch) else set(_unpackable(model, torch))))


def _placing(options: Options, torch: ModuleType) -> dict[str, Any]:
    device = options.device
    if device == "cpu" or (device == "auto" and not torch.accelerator.is_available()):
        return {}
    require("accelerate", "local")
    return {"device_map": device}


def _quantization(
    options: Options, torch: ModuleType, transformers: ModuleType, empty: Callable[[ModuleType], Any]
) -> Any:
    """`empty` creates the model without its weights."""
    if options.quantization is None:
        return None
    require("bitsandbytes", "quant")
    if options.quantization == "int8":
        return transformers.BitsAndBytesConfig(load_in_8bit=True)
    compute = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    default = torch.bfloat16 if torch.accelerator.is_available() else torch.float32
    return transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute.get(options.dtype, default),
        llm_int8_skip_modules=None if _placing(options, torch) else _unpackable(empty(torch), torch),
    )


def _empty(head: Any, config: Any, torch: ModuleType, dtype: Any = None) -> Any:
    with torch.device("meta"):
        return head.from_config(config, dtype=dtype)


def _unpackable(model: Any, torch: ModuleType) -> list[str]:
    """The layers that must not be quantized on a CPU. bitsandbytes' kernels for AVX512-BF16 cannot pack some sizes and
    fail at the first call; there are such layers in Qwen2.5-VL's vision tower. The output head is included, because
    bitsandbytes only skips it by default if no layers are named."""
    head = model.get_output_embeddings()
    return [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear) and (layer is head or layer.in_features % 64 or layer.out_features % 32)
    ]


def _plain_decoding(config: Any) -> None:
    """Remove the checkpoint's sampling settings, since each request has its own. Repetition penalties are kept, because
    requests do not have them."""
    config.do_sample = False
    config.num_beams = 1
    for name in ("temperature", "top_p", "top_k", "min_p", "typical_p", "max_length", "max_new_tokens"):
        setattr(config, name, None)


def _context(config: Any, wanted: int | None) -> int | None:
    own: int | None = getattr(config.get_text_config(decoder=True), "max_position_embeddings", None)
    return min((limit for limit in (own, wanted) if limit is not None), default=None)


def _stops(config: Any, tokenizer: Any) -> frozenset[int]:
    ids = config.eos_token_id if config.eos_token_id is not None else tokenizer.eos_token_id
    config.eos_token_id = ids
    if config.pad_token_id is None:
        config.pad_token_id = tokenizer.pad_token_id
    return frozenset([ids] if isinstance(ids, int) else ids or ())


def _place(model: str) -> str:
    path = Path(model).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelNotFound(
                f"model folder {model!r} has no config.json", hint="use the folder written by save_pretrained"
            )
        return str(path)
    if path.is_file():
        raise ModelNotFound(f"model {model!r} is a file, expected a folder", hint="use the folder that contains it")
    if path.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1:
        raise ModelNotFound(f"model folder {model!r} does not exist", hint="check the path")
    return model


@contextmanager
def _bars_on_a_terminal(transformers: ModuleType) -> Iterator[None]:
    bars = transformers.utils.logging
    if sys.stderr.isatty() or not bars.is_progress_bar_enabled():
        yield
        return
    bars.disable_progress_bar()
    try:
        yield
    finally:
        bars.enable_progress_bar()


def _explained(error: Exception, options: Options, source: Source, torch: ModuleType) -> BackendError:
    """Convert an exception to an error with a hint for the user."""
    name = f"model {options.model!r}"
    if out_of_memory(error, torch):
        return LoadFailed(f"{name} does not fit in memory", hint='set quantization = "nf4", or use a smaller model')
    causes = {type(cause).__name__ for cause in _chain(error)}
    if "GatedRepoError" in causes:
        return Refused(f"{name} is gated", hint="accept its licence on the hub, then run `hf auth login`")
    if "RevisionNotFoundError" in causes:
        return ModelNotFound(
            f"{name} has no revision {options.revision!r}", hint="see its branches and tags on the hub"
        )
    if isinstance(error, OSError) and not Path(source.model).is_dir():
        if options.offline or "OfflineModeIsEnabled" in causes:
            return ModelNotFound(
                f"{name} is not on this machine, and offline is set",
                hint=f"download it first (hf download {options.model}), or allow the network",
            )
        if "LocalEntryNotFoundError" in causes:
            return Unreachable(f"{name} is not on this machine, and the hub does not answer", hint="check the network")
    if causes & {"RepositoryNotFoundError", "HFValidationError"}:
        return ModelNotFound(f"{name} is neither a folder here nor a model on the hub", hint="check the name")
    if "SafetensorError" in causes:
        return LoadFailed(f"{name}: its weights are damaged or incomplete", hint="download or copy them again")
    return LoadFailed(f"{name} could not be loaded: {_first_line(error)}", hint="try the checkpoint with transformers")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
