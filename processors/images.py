"""Opens, checks, decodes, hashes and encodes pictures. All pictures are decoded here."""

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
"""Allows the 50-megapixel pictures of phones. Decoding temporarily takes up to 16 bytes per pixel, or 1 GB."""


class _Jpeg(JpegImageFile):
    """Does not read the resolution from the EXIF block, for which Pillow parses the whole block and warns of damage."""

    @override
    def _read_dpi_from_exif(self) -> None:
        return


_PLUGINS: MappingProxyType[str, type[ImageFile]] = MappingProxyType(
    {"JPEG": _Jpeg, "PNG": PngImageFile, "WEBP": WebPImageFile, "GIF": GifImageFile, "BMP": BmpImageFile}
)

# Restart markers (d0 to d7) occur inside the data of a scan, and 00 follows a data byte of ff.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_BARE_MARKERS = frozenset({0x01, 0xD8})  # without a length and parameters
_USUAL_SCANS = 20
_MAX_SCANS = 500

_SCALE_HINT = "scale the picture down first, or raise max_pixels"
_DAMAGED_HINT = "open it in a viewer to check it; copy, download or export it again"


class _Derived:
    """A cache of values computed from one picture. It is not copied or pickled with the picture."""

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
    """A decoded picture: upright RGB pixels. Use `Image.open` to make one. Images with equal digests are equal.

    Pixels take `3 * width * height` bytes. Thumbnails and data URIs are cached with the picture and freed with it; to
    process many pictures, open each just before it is used. Can be shared between threads.
    """

    width: int = field(compare=False)
    height: int = field(compare=False)
    digest: str
    """SHA-256 over mode, size and pixels, in hexadecimal."""
    note: str = field(compare=False)
    """A remark on how it was opened, such as "first frame of 12", or empty."""
    source: str = field(compare=False)
    """Its origin, for messages: a file name without its folder, "data URI", "bytes", …"""
    file_digest: str = field(repr=False, compare=False)
    """SHA-256 of the file from which it was decoded, in hexadecimal; empty if there was no file."""
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
        """Open and decode `source`. Raises `ImageError` if it cannot be read or decoded.

        `source` is a path, a data URI, the bytes of a file, a binary file object (read from its current position, not
        closed), a Pillow image (which is copied), or an `Image`; with `fetch`, also an `https://` URL.

        max_pixels: larger pictures are refused, before they are decoded.
        pipes: whether to accept the path of a pipe, which can be read only once.
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
        """A copy as a Pillow image in mode RGB."""
        return PIL.Image.frombytes("RGB", (self.width, self.height), self._rgb)

    def thumbnail(self, max_pixels: int) -> Image:
        """This picture reduced to at most `max_pixels`, keeping its aspect ratio; the same object if it is small
        enough."""
        if max_pixels < 1:
            raise ImageError(f"a picture cannot have {max_pixels} pixels", hint="pass a max_pixels of at least 1")
        if self.pixels <= max_pixels:
            return self
        width, height = self._fitted(max_pixels)
        with self._derived.lock:
            made = self._derived.thumbnails.get((width, height))
            if made is None:
                # reducing_gap: first a cheap reduction to three times the final size, then the filter.
                small = self.pil().resize((width, height), PIL.Image.Resampling.LANCZOS, reducing_gap=3.0)
                made = self._derived.thumbnails[width, height] = _freeze(small, note=self.note, source=self.source)
        return made

    def data_uri(self, max_pixels: int | None = None) -> str:
        """This picture as a data URI without metadata, reduced to at most `max_pixels`. Equal pictures give equal
        URIs."""
        return self.data_uri_bytes(max_pixels).decode("ascii")

    def data_uri_bytes(self, max_pixels: int | None = None) -> bytes:
        """The data URI in ASCII. Returns the cached object, not a copy."""
        if max_pixels is not None:
            small = self.thumbnail(max_pixels)
            if small is not self:
                return small.data_uri_bytes()
        with self._derived.lock:
            if self._derived.uri is None:
                self._derived.uri = _encode(self.pil())
            return self._derived.uri

    def preview_uri(self, max_pixels: int) -> str:
        """A small WebP data URI to show to people, reduced to at most `max_pixels`. Unlike `data_uri`, it is lossy for
        small pictures too; it takes about a quarter of the bytes."""
        buffer = io.BytesIO()
        self.thumbnail(max_pixels).pil().save(buffer, "WEBP", quality=75)
        return "data:image/webp;base64," + base64.b64encode(buffer.getbuffer()).decode("ascii")

    def has_data_uri(self, max_pixels: int | None = None) -> bool:
        """Whether `data_uri_bytes` is cached."""
        if max_pixels is None or self.pixels <= max_pixels:
            return self._derived.uri is not None
        small = self._derived.thumbnails.get(self._fitted(max_pixels))
        return small is not None and small.has_data_uri()

    def _fitted(self, max_pixels: int) -> tuple[int, int]:
        """Width and height of a thumbnail of at most `max_pixels`, which must be less than `pixels`."""
        scale = math.sqrt(max_pixels / self.pixels)
        # No side can become less than 1, so the long side of a 1 x 100,000 strip is reduced more than in proportion.
        width = min(max(1, int(self.width * scale)), max_pixels)
        height = min(max(1, int(self.height * scale)), max_pixels // width)
        return min(width, max_pixels // height), height


def file_digest(source: str | bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS, pipes: bool = True) -> str:
    """The `file_digest` of a source, without decoding it. Raises `ImageError`."""
    return hashlib.sha256(read(source, max_pixels, pipes=pipes).data).hexdigest()


def _freeze(rgb: PIL.Image.Image, *, note: str, source: str, file_digest: str = "") -> Image:
    pixels = rgb.tobytes()
    digest = hashlib.sha256(f"RGB {rgb.width}x{rgb.height}\n".encode())
    digest.update(pixels)
    return Image(rgb.width, rgb.height, digest.hexdigest(), note, source, file_digest, pixels)


def _encode(rgb: PIL.Image.Image) -> bytes:
    # PNG for pictures with few colours (charts, maps, screenshots): it is exact and about as small as JPEG, which blurs
    # text. JPEG for photographs, which are three to five times larger as PNG. Small pictures are always PNG: they are
    # cheap, and each pixel matters. The choice depends on the pixels only, so that equal pictures from different files
    # have the same bytes for a prefix cache.
    buffer = io.BytesIO()
    exact = rgb.width * rgb.height <= 256 * 256 or rgb.getcolors(maxcolors=1 << 14) is not None
    if exact or max(rgb.size) > 65_500:  # the longest side that a JPEG can have
        rgb.save(buffer, "PNG")
        kind = b"png"
    else:
        rgb.save(buffer, "JPEG", quality=90, subsampling=0)  # 4:4:4: subsampling blurs coloured text and thin lines
        kind = b"jpeg"
    return b"".join((b"data:image/", kind, b";base64,", base64.b64encode(buffer.getbuffer())))


def _decode(encoded: Encoded, max_pixels: int) -> Image:
    data, subject, source = encoded
    name = file_format(data, subject)
    # The plugin's class is called instead of PIL.Image.open, whose own size limit issues warnings and raises before the
    # size is known. On damaged or hostile bytes, decoders can raise any `Exception`. Their messages can contain memory
    # addresses, so they are not repeated.
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
        image.load()  # decodes the file, if the image came from one
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
    """Refuse progressive JPEGs with too many scans. Each scan is a pass over all pixels and can be a few bytes long, so
    a small file can take minutes to decode. Encoders write about ten scans."""
    scans = _count_scans(data)
    if scans > _MAX_SCANS or scans * pixels > _USUAL_SCANS * max_pixels:
        raise ImageError(
            f"{subject} has {scans:,} scans over {pixels:,} pixels, which take too long to decode",
            hint="save it again as a JPEG that is not progressive, or as PNG",
        )


def _count_scans(data: bytes) -> int:
    """The number of start-of-scan markers, found like libjpeg does, from marker to marker."""
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
    """Convert any mode to RGB, with a white background for transparent pixels."""
    if image.mode.startswith("I"):  # 16 bits: Pillow's conversion clips at 255 instead of scaling
        grey = image.point(lambda value: value * (1 / 257) + 0.5).convert("L")
        return grey.convert("RGB")
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    if image.mode == "La":  # premultiplied alpha; Pillow converts it to RGBA only via LA
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
    """The EXIF orientation, or 1 (upright) if there is none or the block is damaged.

    Pillow is not used for this: it reads the whole block and warns about each damaged entry, which phones and web tools
    often write, and suppressing warnings is not thread-safe.
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
        # Counting the frames of a GIF takes up to 0.5 s per MB, so larger files are skipped; errors are ignored.
        frames = getattr(image, "n_frames", 1) if size < 1 << 20 else "an animation"
        return f"first frame of {frames}"
    except Exception:
        return "first frame of an animation"
