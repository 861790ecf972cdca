"""All other image-text-to-text models of transformers, with their own processors.

These processors resize and tile pictures in their own way. `max_pixels` reduces a picture before that, which saves
tokens if the processor cuts large pictures into tiles. `min_pixels` has no effect.
"""

from __future__ import annotations

from typing import Any

from processors.errors import FamilyError
from processors.families.base import Budget, Source, VisionEncoder, load_processor

MODEL_TYPES: frozenset[str] = frozenset()  # used for types that no other family supports


def load(config: Any, source: Source, budget: Budget) -> VisionEncoder:
    processor = load_processor(config.model_type, source)
    encoder = VisionEncoder(processor, resumable=False, max_pixels=budget.max_pixels)
    if not encoder.chat.usable:
        raise FamilyError(
            f"{source.model!r} has neither a chat template nor a token for pictures",
            hint="use an instruct model",
        )
    return encoder
