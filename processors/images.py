"""The one place that decodes pictures: open, check, orient, bound, hash, encode."""

from __future__ import annotations

import base64
import hashlib
import io
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import PIL.Image

from processors.errors import ImageError
from processors.fetching import FetchPolicy

DEFAULT_MAX_PIXELS = 64_000_000


@dataclass(frozen=True, slots=True)
class Image:
    """A picture: RGB pixels, upright, bounded. Equal when size and pixels are. Made by `Image.open`."""

    width: int = field(compare=False)
    height: int = field(compare=False)
    digest: str
    note: str = field(default="", compare=False)
    source: str = field(default="", compare=False)
    _rgb: bytes = field(default=b"", repr=False, compare=False)

    @classmethod
    def open(
        cls,
        source: str | Path | bytes | PIL.Image.Image | BinaryIO | Image,
        *,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        fetch: FetchPolicy | None = None,
    ) -> Image:
        """Decode `source`, at once, so that what is wrong with it is told here. Raises ImageError."""
        if isinstance(source, Image):
            return source
        if isinstance(source, PIL.Image.Image):
            return cls._of(source.convert("RGB"), note="", source="PIL image")
        if isinstance(source, bytes):
            return cls._of(PIL.Image.open(io.BytesIO(source)).convert("RGB"), note="", source="bytes")
        if isinstance(source, (str, os.PathLike)):
            path = Path(source)
            if not path.exists():
                raise ImageError(f"picture {str(path)!r} does not exist", hint="check the path")
            return cls._of(PIL.Image.open(path).convert("RGB"), note="", source=path.name)
        return cls._of(PIL.Image.open(source).convert("RGB"), note="", source="file object")

    @classmethod
    def _of(cls, rgb: PIL.Image.Image, *, note: str, source: str) -> Image:
        pixels = rgb.tobytes()
        digest = hashlib.sha256(f"RGB {rgb.width}x{rgb.height}\n".encode() + pixels).hexdigest()
        return cls(rgb.width, rgb.height, digest, note, source, pixels)

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height

    def pil(self) -> PIL.Image.Image:
        """The picture for Pillow, in mode RGB: a copy, the caller's to change."""
        return PIL.Image.frombytes("RGB", (self.width, self.height), self._rgb)

    def thumbnail(self, max_pixels: int) -> Image:
        """This picture within `max_pixels`, its proportions kept; this very object if it fits already."""
        if self.pixels <= max_pixels:
            return self
        scale = math.sqrt(max_pixels / self.pixels)
        size = max(1, int(self.width * scale)), max(1, int(self.height * scale))
        return Image._of(self.pil().resize(size), note=self.note, source=self.source)

    def data_uri(self, max_pixels: int | None = None) -> str:
        """This picture, within `max_pixels`, as a data URI. Equal pictures give equal URIs."""
        image = self if max_pixels is None else self.thumbnail(max_pixels)
        buffer = io.BytesIO()
        image.pil().save(buffer, "PNG")
        return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
