"""LLaVA and related models.

Pictures are resized to a fixed size, so the number of tokens does not depend on their pixels (LLaVA-NeXT: one to five
times as many, depending on the shape). `max_pixels` reduces a picture before that. `min_pixels` has no effect.

Early checkpoints have no chat template, so prompts are plain USER/ASSISTANT ones. They also lack the values with which
the processor counts a picture's tokens; these are read from the model's config.
"""

from __future__ import annotations

from typing import Any

from processors.families.base import Budget, Source, VisionEncoder, load_processor

MODEL_TYPES = frozenset({"llava", "llava_next", "vipllava"})

_RESUMABLE = frozenset({"llava", "vipllava"})
_WITH_CLASS_TOKEN = frozenset({"clip_vision_model"})


def load(config: Any, source: Source, budget: Budget) -> VisionEncoder:
    processor = load_processor(config.model_type, source)
    if processor.patch_size is None:
        vision = config.vision_config
        processor.patch_size = vision.patch_size
        processor.vision_feature_select_strategy = getattr(config, "vision_feature_select_strategy", "default")
        processor.num_additional_image_tokens = int(vision.model_type in _WITH_CLASS_TOKEN)
    return VisionEncoder(processor, resumable=config.model_type in _RESUMABLE, max_pixels=budget.max_pixels)
