"""The one place that decodes pictures: open, check, orient, bound, hash, encode."""

from __future__ import annotations

import base64
import hashlib
import io
import math
import os
import re
import struct
import threading
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import IO, TypeAlias

import PIL.Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile
from typing_extensions import override

from processors.errors import ImageError
from processors.fetching import FetchPolicy
from processors.sources import Encoded, file_format, read, shown

ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | PIL.Image.Image | IO[bytes] | Image"

DEFAULT_MAX_PIXELS = 64_000_000
"""A 50-megapixel phone picture passes. Decoding takes up to 16 bytes a pixel for a moment: 1 GB at this limit."""


class _Jpeg(JpegImageFile):
    """Without reading all of the EXIF block for the sake of a printer's resolution, and warning of what is damaged."""

    @override
    def _read_dpi_from_exif(self) -> None:
        return


_PLUGINS: MappingProxyType[str, type[ImageFile]] = MappingProxyType(
    {"JPEG": _Jpeg, "PNG": PngImageFile, "WEBP": WebPImageFile, "GIF": GifImageFile, "BMP": BmpImageFile}
)

# Restart markers stand inside the data of a scan, and a zero marks a byte of it that looks like a marker.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_BARE_MARKERS = frozenset({0x01, 0xD8})  # without a length and parameters
_USUAL_SCANS = 20
_MAX_SCANS = 500

_SCALE_HINT = "scale the picture down first, or raise max_pixels"
_DAMAGED_HINT = "open it in a viewer to check it; copy, download or export it again"


class _Derived:
    """What was computed from one picture, kept as long as the picture is; copies and pickles start empty."""

    __slots__ = ("lock", "thumbnails", "uri")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.thumbnails: dict[tuple[int, int], Image] = {}
        self.uri: bytes | None = None

    @override
    def __reduce__(self) -> tuple[type[_Derived], tuple[()]]:
        return _Derived, ()


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Image:
    """A picture: RGB pixels, upright, bounded. Made by `Image.open`; equal to, and hashed like, any of equal digest.

    Pixels take `3 * width * height` bytes; thumbnails and data URIs are kept with the picture that they were made
    from. All of it is gone with the last reference: who works through many pictures opens each just before its use.
    Safe to share between threads.
    """

    width: int = field(compare=False)
    height: int = field(compare=False)
    digest: str
    """SHA-256 over mode, size and pixels, in hexadecimal."""
    note: str = field(compare=False)
    """What the caller should know of how it was opened, as "first frame of 12"; else empty."""
    source: str = field(compare=False)
    """Where it came from, to name it in messages: a file's name without its folder, "data URI", "bytes", …"""
    file_digest: str = field(repr=False, compare=False)
    """SHA-256 of the file that it was decoded from, in hexadecimal; empty if it came from no file's bytes."""
    _rgb: bytes = field(repr=False, compare=False)
    _derived: _Derived = field(repr=False, compare=False, default_factory=_Derived)

    @classmethod
    def open(
        cls,
        source: ImageSource,
        *,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        fetch: FetchPolicy | None = None,
        pipes: bool = True,
    ) -> Image:
        """Decode `source` at once, so that whatever is wrong with it is told here. Raises ImageError.

        source: a path, a data URI, the bytes of a file, a binary file object (read from where it stands, left open),
            a Pillow image (taken as it is at this moment), or an `Image`; an `https://` URL only with `fetch`.
        max_pixels: more are refused from the header, before anything is decoded.
        pipes: whether a path may be that of a pipe, which can be read only once.
        """
        if isinstance(source, Image):
            _check_size(source.width, source.height, f"the picture {shown(source.source)}", max_pixels)
            return source
        if isinstance(source, PIL.Image.Image):
            return _from_pillow(source, max_pixels)
        return _decode(read(source, max_pixels, fetch, pipes=pipes), max_pixels)

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height

    def pil(self) -> PIL.Image.Image:
        """The picture for Pillow, in mode RGB: a copy each time, the caller's to change."""
        return PIL.Image.frombytes("RGB", (self.width, self.height), self._rgb)

    def thumbnail(self, max_pixels: int) -> Image:
        """This picture in at most `max_pixels`, its proportions kept; this very object if it fits already."""
        if max_pixels < 1:
            raise ImageError(f"a picture cannot have {max_pixels} pixels", hint="pass a max_pixels of at least 1")
        if self.pixels <= max_pixels:
            return self
        width, height = self._fitted(max_pixels)
        with self._derived.lock:
            made = self._derived.thumbnails.get((width, height))
            if made is None:
                # reducing_gap: a first, cheap reduction leaves the filter three times the final size to work on.
                small = self.pil().resize((width, height), PIL.Image.Resampling.LANCZOS, reducing_gap=3.0)
                made = self._derived.thumbnails[width, height] = _freeze(small, note=self.note, source=self.source)
        return made

    def data_uri(self, max_pixels: int | None = None) -> str:
        """This picture, in at most `max_pixels`, as a data URI without metadata. Equal pictures give equal URIs."""
        return self.data_uri_bytes(max_pixels).decode("ascii")

    def data_uri_bytes(self, max_pixels: int | None = None) -> bytes:
        """The same in ASCII: the object that is kept with the picture, not a copy."""
        if max_pixels is not None:
            small = self.thumbnail(max_pixels)
            if small is not self:
                return small.data_uri_bytes()
        with self._derived.lock:
            if self._derived.uri is None:
                self._derived.uri = _encode(self.pil())
            return self._derived.uri

    def has_data_uri(self, max_pixels: int | None = None) -> bool:
        """Whether `data_uri_bytes` was called before, so that it takes no time now."""
        if max_pixels is None or self.pixels <= max_pixels:
            return self._derived.uri is not None
        small = self._derived.thumbnails.get(self._fitted(max_pixels))
        return small is not None and small.has_data_uri()

    def _fitted(self, max_pixels: int) -> tuple[int, int]:
        """Width and height within `max_pixels`, which are fewer than there are."""
        scale = math.sqrt(max_pixels / self.pixels)
        # A strip of 1 x 100,000 keeps a side of 1, so the other side has to give more than its share.
        width = min(max(1, int(self.width * scale)), max_pixels)
        height = min(max(1, int(self.height * scale)), max_pixels // width)
        return min(width, max_pixels // height), height


def file_digest(source: str | bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS, pipes: bool = True) -> str:
    """The `file_digest` that `Image.open` would give, without decoding anything. Raises ImageError."""
    return hashlib.sha256(read(source, max_pixels, pipes=pipes).data).hexdigest()


def _freeze(rgb: PIL.Image.Image, *, note: str, source: str, file_digest: str = "") -> Image:
    pixels = rgb.tobytes()
    digest = hashlib.sha256(f"RGB {rgb.width}x{rgb.height}\n".encode())
    digest.update(pixels)
    return Image(rgb.width, rgb.height, digest.hexdigest(), note, source, file_digest, pixels)


def _encode(rgb: PIL.Image.Image) -> bytes:
    # Charts, maps and screenshots have few colours: PNG is exact, and about as small as a JPEG that would smear
    # their text. Photographs have many and cost three to five times more as PNG. Small pictures are cheap either way,
    # and each of their pixels counts. The choice depends on the pixels alone, so that equal pictures, whatever file
    # they came from, are the same to a prefix cache.
    buffer = io.BytesIO()
    exact = rgb.width * rgb.height <= 256 * 256 or rgb.getcolors(maxcolors=1 << 14) is not None
    if exact or max(rgb.size) > 65_500:  # the longest side that a JPEG can have
        rgb.save(buffer, "PNG")
        kind = b"png"
    else:
        rgb.save(buffer, "JPEG", quality=90, subsampling=0)  # 4:4:4, or coloured letters and thin lines blur
        kind = b"jpeg"
    return b"".join((b"data:image/", kind, b";base64,", base64.b64encode(buffer.getbuffer())))


def _decode(encoded: Encoded, max_pixels: int) -> Image:
    data, subject, source = encoded
    name = file_format(data, subject)
    # The plugin's class is called, not PIL.Image.open, whose own limit warns for the whole process and raises before
    # it tells the size. Decoders raise whatever they like on hostile bytes, hence `Exception`; what they say may
    # carry memory addresses, hence `from None` and words of our own.
    try:
        image = _PLUGINS[name](io.BytesIO(data))
    except PIL.Image.DecompressionBombError:
        raise ImageError(
            f"{subject} claims more pixels than can be decoded; at most {max_pixels:,} are allowed", hint=_SCALE_HINT
        ) from None
    except Exception:
        raise ImageError(
            f"{subject} is truncated or damaged: its {name} header is unreadable", hint=_DAMAGED_HINT
        ) from None
    _check_size(image.width, image.height, subject, max_pixels)
    if name == "JPEG":
        _check_scans(data, image.width * image.height, subject, max_pixels)
    try:
        image.load()
        rgb = _upright(_to_rgb(image), image)
    except MemoryError:
        raise ImageError(
            f"{subject} of {image.width:,} x {image.height:,} pixels does not fit into memory",
            hint=_SCALE_HINT,
            retryable=True,
        ) from None
    except Exception:
        size = f"{image.width:,} x {image.height:,}"
        raise ImageError(
            f"{subject} is truncated or damaged: not all of its {size} pixels can be decoded", hint=_DAMAGED_HINT
        ) from None
    digest = hashlib.sha256(data).hexdigest()
    return _freeze(rgb, note=_frames_note(image, len(data)), source=source, file_digest=digest)


def _from_pillow(image: PIL.Image.Image, max_pixels: int) -> Image:
    subject = "the Pillow image"
    _check_size(image.width, image.height, subject, max_pixels)
    if image.mode in {"I", "F"} and image.format is None:
        raise ImageError(
            f"{subject} has mode {image.mode}, whose values have no fixed range; expected 8 or 16 bits",
            hint='scale its values to 0 to 255 and convert it to mode "L" or "RGB"',
        )
    try:
        image.load()  # if it came from a file, this is where that is decoded
    except Exception:
        raise ImageError(
            f"{subject} is truncated, damaged or closed: its pixels cannot be decoded", hint=_DAMAGED_HINT
        ) from None
    try:
        rgb = _upright(_to_rgb(image), image)
    except Exception:
        raise ImageError(
            f"{subject} has mode {image.mode}, which does not convert to RGB", hint='convert it to mode "RGB" first'
        ) from None
    return _freeze(rgb, note="", source="PIL image")


def _check_size(width: int, height: int, subject: str, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"{subject} has no pixels: {width} x {height}", hint="check how it was made")
    if width * height > max_pixels:
        raise ImageError(
            f"{subject} has {width:,} x {height:,} = {width * height:,} pixels; at most {max_pixels:,} are allowed",
            hint=_SCALE_HINT,
        )


def _check_scans(data: bytes, pixels: int, subject: str, max_pixels: int) -> None:
    """A progressive JPEG is decoded in scans, each of which goes over all pixels. Encoders write about ten; a scan can
    also be a few bytes of nothing, so that a small file takes minutes."""
    scans = _count_scans(data)
    if scans > _MAX_SCANS or scans * pixels > _USUAL_SCANS * max_pixels:
        raise ImageError(
            f"{subject} has {scans:,} scans over {pixels:,} pixels, which take too long to decode",
            hint="save it again as a JPEG that is not progressive, or as PNG",
        )


def _count_scans(data: bytes) -> int:
    """Start-of-scan markers, as libjpeg goes from marker to marker."""
    scans = position = 0
    while found := _MARKER.search(data, position):
        position = found.end()
        code = data[position - 1]
        if code == _END_OF_IMAGE:
            break
        scans += code == _START_OF_SCAN
        if code not in _BARE_MARKERS:
            position += max(2, int.from_bytes(data[position : position + 2], "big"))
    return scans


def _to_rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    """Any mode to RGB, what is transparent to white."""
    if image.mode.startswith("I"):  # 16 bits: Pillow's own conversion clips at 255 instead of scaling
        grey = image.point(lambda value: value * (1 / 257) + 0.5).convert("L")
        return grey.convert("RGB")
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    if image.mode == "La":  # premultiplied; goes to RGBA only by way of LA
        image = image.convert("LA")
    rgba = image if image.mode == "RGBA" else image.convert("RGBA")
    canvas = PIL.Image.new("RGB", image.size, "white")
    canvas.paste(rgba, mask=rgba.getchannel("A"))
    return canvas


_TURNS = MappingProxyType(
    {
        2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
        3: PIL.Image.Transpose.ROTATE_180,
        4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
        5: PIL.Image.Transpose.TRANSPOSE,
        6: PIL.Image.Transpose.ROTATE_270,
        7: PIL.Image.Transpose.TRANSVERSE,
        8: PIL.Image.Transpose.ROTATE_90,
    }
)


def _upright(rgb: PIL.Image.Image, original: PIL.Image.Image) -> PIL.Image.Image:
    exif = original.info.get("exif")
    turn = _TURNS.get(_orientation(exif)) if isinstance(exif, bytes) else None
    return rgb if turn is None else rgb.transpose(turn)


def _orientation(exif: bytes) -> int:
    """The EXIF orientation, 1 (upright) where there is none or the block is damaged.

    Not read with Pillow: it reads the whole block and warns about each damaged entry, which phones and web tools leave
    behind, and silencing warnings is not thread-safe.
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", tiff, entry)
            if tag == 0x0112:
                (value,) = struct.unpack_from(f"{order}{'I' if kind == 4 else 'H'}", tiff, entry + 8)
                return int(value)
    except struct.error:
        return 1
    return 1


def _frames_note(image: ImageFile, size: int) -> str:
    try:
        if not getattr(image, "is_animated", False):
            return ""
        # To count a GIF's frames is to read through the whole file: not worth seconds, and never an error.
        frames = getattr(image, "n_frames", 1) if size < 32 << 20 else "an animation"
        return f"first frame of {frames}"
    except Exception:
        return "first frame of an animation"
