"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL.

A picture is resized so that both sides are multiples of a factor (28, for Qwen3-VL 32) and its pixels are within the
budget. Each factor × factor square is one token. Checkpoints allow up to 16,384 tokens per picture. The default here is
1,280, which the Qwen team recommends if memory is scarce; `max_pixels` overrides it.

With the `qwen` extra, pictures are resized by qwen_vl_utils, otherwise by the image processor, with the same budget.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

from typing_extensions import override

from processors.errors import ImageError
from processors.families.base import Budget, Source, VisionEncoder, load_processor
from processors.images import Image

MODEL_TYPES = frozenset({"qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe"})

DEFAULT_TOKENS = 1280
_MAX_RATIO = 200  # of the longer side to the shorter; the resizers of this family refuse more


class QwenEncoder(VisionEncoder):
    def __init__(self, processor: Any, budget: Budget, *, with_utils: bool) -> None:
        image_processor = processor.image_processor
        self._patch_size = image_processor.patch_size
        size = image_processor.size
        factor = self._patch_size * image_processor.merge_size
        self._max = budget.max_pixels or min(size["longest_edge"], DEFAULT_TOKENS * factor**2)
        self._min = min(budget.min_pixels or size["shortest_edge"], self._max)
        self._with_utils = with_utils
        own = {"size": {"shortest_edge": self._min, "longest_edge": self._max}}
        super().__init__(processor, resumable=True, image_options={"do_resize": False} if with_utils else own)

    @override
    def prepare(self, images: Sequence[Image]) -> list[Any]:
        for image in images:
            if max(image.width, image.height) > _MAX_RATIO * min(image.width, image.height):
                raise ImageError(
                    f"picture {image.source!r} is {image.width}x{image.height}, "
                    f"expected one side at most {_MAX_RATIO} times the other",
                    hint="cut it into parts",
                )
        pictures = [image.pil() for image in images]
        return self._resized(pictures) if pictures and self._with_utils else pictures

    def _resized(self, pictures: list[Any]) -> list[Any]:
        from qwen_vl_utils import process_vision_info

        budget = {"min_pixels": self._min, "max_pixels": self._max}
        parts = [{"type": "image", "image": picture} | budget for picture in pictures]
        conversation = [{"role": "user", "content": parts}]
        # The second value is for videos.
        resized, _ = process_vision_info(conversation, image_patch_size=self._patch_size)
        return list(resized)


def load(config: Any, source: Source, budget: Budget) -> QwenEncoder:
    processor = load_processor(config.model_type, source)
    extra = ("qwen_vl_utils", "torchvision")
    with_utils = all(importlib.util.find_spec(package) is not None for package in extra)
    return QwenEncoder(processor, budget, with_utils=with_utils)
