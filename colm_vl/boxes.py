"""Boxes that models of the Qwen-VL family give as evidence.

Qwen2-VL writes ``<|object_ref_start|>a cat<|object_ref_end|><|box_start|>(x1,y1),(x2,y2)<|box_end|>``; Qwen2.5-VL and
Qwen3-VL write objects such as ``{"bbox_2d": [x1, y1, x2, y2], "label": "a cat"}``. Coordinates of Qwen2-VL and Qwen3-VL
are relative, from 0 to 1000. Those of Qwen2.5-VL are pixels of the picture as it was resized for the model.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from colm_vl.backends.base import Options
from colm_vl.team import Team
from processors.images import Image

MAX_BOXES = 32
"""Of one reply."""
_FAMILY = re.compile(r"qwen[-_. ]?(\d+(?:[._]\d+)?)[-_. ]?vl", re.IGNORECASE)
_RELATIVE, _ABSOLUTE = frozenset({"2", "3"}), frozenset({"2.5"})
_FACTOR = 28
"""Qwen2.5-VL resizes both sides of a picture to multiples of this."""
_MIN, _MAX = 4 * _FACTOR**2, 1280 * _FACTOR**2
"""Pixels between which Qwen2.5-VL's picture is only rounded, whatever runs the model: for a picture, this package and
some versions of Ollama allow 1,280 tokens of `_FACTOR` × `_FACTOR` pixels by default, newer ones 2,097,152 pixels, and
the model's own configuration, which vLLM uses, 16,384 tokens."""
_SLACK = 1.02
"""Boxes that end beyond the picture by no more than this are cut at its edge; others are not used."""
_JSON = re.compile(r"\{[^{}]*\}")
_TAGGED = re.compile(
    r"(?:<\|object_ref_start\|>([^<]{0,200})<\|object_ref_end\|>\s*)?"
    r"<\|box_start\|>\s*\((\d{1,5}),\s*(\d{1,5})\),\s*\((\d{1,5}),\s*(\d{1,5})\)\s*<\|box_end\|>"
)


@dataclass(frozen=True, slots=True)
class Scale:
    """The width and height of a picture in a model's coordinates."""

    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Box:
    """Its sides are fractions of the picture's width and height, from the left and from the top."""

    left: float
    top: float
    right: float
    bottom: float
    label: str = ""


def read_boxes(text: str, scale: Scale) -> tuple[Box, ...]:
    """The boxes in a reply, at most `MAX_BOXES`."""
    found: list[Box] = []
    for label, corners in (*_from_json(text), *_from_tags(text)):
        box = _box(label, corners, scale)
        if box and box not in found:
            found.append(box)
    return tuple(found[:MAX_BOXES])


def scales(team: Team, images: Sequence[Image]) -> Mapping[str, Scale]:
    """The scale of each member that can write boxes, by name, if it is known for this picture. Empty unless there is
    exactly one picture, because a box does not name its picture."""
    if len(images) != 1:
        return {}
    found = {}
    for member in team.members:
        image: Image | None = images[0]
        if member.role == "server":
            image = {
                "images": image,
                "thumbnails": images[0].thumbnail(team.policy.thumbnail_pixels),
                "captions": None,
            }[team.policy.share]
        scale = scale_of(member.options.model, member.options, image)
        if scale is not None:
            found[member.name] = scale
    return MappingProxyType(found)


def scale_of(model: str, options: Options | None = None, image: Image | None = None) -> Scale | None:
    """The scale of a model's coordinates, by the name of the model. None if it is of another family, or if the size at
    which it saw the picture is not known: Qwen2.5-VL needs `options` and `image`."""
    named = _FAMILY.search(model)
    version = named[1].replace("_", ".") if named else ""
    if version in _RELATIVE:
        return Scale(1000, 1000)
    return _processed(image, options) if version in _ABSOLUTE and image and options else None


def _processed(image: Image, options: Options) -> Scale | None:
    """The size of the picture after the resizing of Qwen2.5-VL.

    An endpoint has limits of its own, which are not known. Its scale is, if the picture is within all of them.
    """
    if options.in_process:
        most = options.max_pixels or _MAX
        return _resized(image, min(getattr(options, "min_pixels", None) or _MIN, most), most)
    sent = image if options.max_pixels is None else image.thumbnail(options.max_pixels)
    scale = _resized(sent, 1, math.inf)
    return scale if _MIN <= scale.width * scale.height <= _MAX else None


def _resized(image: Image, least: float, most: float) -> Scale:
    width, height = (max(1, round(side / _FACTOR)) for side in (image.width, image.height))
    pixels = width * height * _FACTOR**2
    if pixels > most:
        shrink = math.sqrt(image.pixels / most)
        width, height = (math.floor(side / shrink / _FACTOR) for side in (image.width, image.height))
    elif pixels < least:
        grow = math.sqrt(least / image.pixels)
        width, height = (math.ceil(side * grow / _FACTOR) for side in (image.width, image.height))
    return Scale(max(1, width) * _FACTOR, max(1, height) * _FACTOR)


def _from_json(text: str) -> Iterator[tuple[str, Sequence[Any]]]:
    for found in _JSON.finditer(text):
        if "bbox_2d" not in found[0]:
            continue
        try:
            written = json.loads(found[0])
        except (ValueError, RecursionError):
            continue
        corners, label = written.get("bbox_2d"), written.get("label")
        if isinstance(corners, list):
            yield label.strip() if isinstance(label, str) else "", corners


def _from_tags(text: str) -> Iterator[tuple[str, Sequence[Any]]]:
    for label, *corners in _TAGGED.findall(text):
        yield label.strip(), [int(corner) for corner in corners]


def _box(label: str, corners: Sequence[Any], scale: Scale) -> Box | None:
    if len(corners) != 4 or not all(type(corner) in (int, float) and 0 <= corner < 1e6 for corner in corners):
        return None
    left, right = corners[0] / scale.width, corners[2] / scale.width
    top, bottom = corners[1] / scale.height, corners[3] / scale.height
    if max(right, bottom) > _SLACK or left >= min(right, 1) or top >= min(bottom, 1):
        return None
    return Box(left, top, min(right, 1.0), min(bottom, 1.0), label)


__all__: Sequence[str] = ["MAX_BOXES", "Box", "Scale", "read_boxes", "scale_of", "scales"]
