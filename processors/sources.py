"""Reads the bytes of a picture from a path, data URI, URL or file object."""

from __future__ import annotations

import base64
import binascii
import codecs
import os
import re
import select
import stat
import urllib.parse
from pathlib import Path
from typing import NamedTuple, Protocol, TypeGuard

from processors.errors import ImageError
from processors.fetching import FetchPolicy, fetch_picture

ACCEPTED = "a JPEG, PNG, WebP, GIF or BMP picture"

PIPE_SECONDS = 30.0
"""How long to wait for data from a pipe."""

_SNIFFED = 1 << 16  # bytes used to detect the format of a file


class Encoded(NamedTuple):
    """The undecoded file of a picture."""

    data: bytes
    subject: str
    """Its description in messages."""
    source: str


def read(source: object, max_pixels: int, policy: FetchPolicy | None = None, *, pipes: bool = True) -> Encoded:
    """The bytes of `source`. Raises `ImageError` if it cannot be read, or if it is a pipe and `pipes` is False."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return Encoded(bytes(source), "the picture given as bytes", "bytes")
    if isinstance(source, str):
        scheme = re.match(r"(data|https?|file|[a-z][a-z0-9+.-]+(?=://)):", source, re.IGNORECASE)
        if scheme:
            return _read_uri(source, scheme[1].lower(), policy)
        return _read_path(source, max_pixels, pipes)
    if isinstance(source, os.PathLike):
        return _read_path(os.fsdecode(source), max_pixels, pipes)
    if callable(getattr(source, "read", None)):
        return _read_file_object(source, max_pixels)
    raise ImageError(
        f"a picture cannot be opened from an object of type {type(source).__name__}",
        hint="pass a path, bytes, a data URI, a file object or a Pillow image (PIL.Image.fromarray for an array)",
    )


def is_path(source: object) -> TypeGuard[str]:
    """Whether a source is text that names a file of this machine: no data URI and no address."""
    return isinstance(source, str) and source[:5].lower() != "data:" and "://" not in source


def subject_of(source: str | bytes) -> str:
    """The description of an unread picture in messages."""
    if isinstance(source, bytes):
        return "the picture given as bytes"
    if source[:5].lower() == "data:":
        return "the picture in a data URI"
    return f"the picture {shown(place_of(source) if '://' in source else source)}"


def place_of(uri: str) -> str:
    """An address without its query, which may contain a signature, and without a password before the host."""
    return re.sub(r"//[^/]*@", "//", re.split(r"[?#]", uri, maxsplit=1)[0])


def _read_uri(uri: str, scheme: str, policy: FetchPolicy | None) -> Encoded:
    if scheme == "data":
        return Encoded(_data_of(uri), "the picture in a data URI", "data URI")
    if scheme == "https" and policy is not None:
        fetched = fetch_picture(uri, policy)
        return Encoded(fetched.data, f"the picture at {fetched.place}", fetched.name)
    place = shown(place_of(uri))
    if scheme == "https":
        raise ImageError(
            f"the picture {place} is remote, and fetching is off",
            hint="download it and pass its path, or pass a FetchPolicy that allows its host",
        )
    if scheme == "file":
        raise ImageError(f"the picture {place} is a file: URL", hint="pass the path itself, without file://")
    raise ImageError(
        f"the picture {place} has the unsupported scheme {scheme}:",
        hint="download it and pass its path; only https can be fetched, and only with a FetchPolicy",
    )


def _data_of(uri: str) -> bytes:
    header, comma, payload = uri.partition(",")
    if not comma:
        raise ImageError(
            f"the data URI {shown(uri, 40)} has no comma",
            hint="the form is data:image/png;base64,<the picture's bytes>",
        )
    if not header.lower().endswith(";base64"):
        raise ImageError(
            f"the data URI {shown(uri, 40)} is not in base64",
            hint="the form is data:image/png;base64,<the picture's bytes>",
        )
    text = re.sub(r"\s+", "", urllib.parse.unquote(payload)).rstrip("=")
    wrong = re.search(r"[^A-Za-z0-9+/]", text)
    if wrong:
        raise ImageError(
            f"the data URI {shown(uri, 40)} has wrong base64: {wrong[0]!a} at position {wrong.start()}",
            hint="encode the picture's bytes with base64.b64encode",
        )
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise ImageError(
            f"the data URI {shown(uri, 40)} has wrong base64: {len(text):,} characters cannot be whole bytes",
            hint="it was probably truncated: encode the picture's bytes again",
        ) from None


def _read_path(path: str, max_pixels: int, pipes: bool) -> Encoded:
    subject = f"the picture {shown(path)}"
    if not path:
        raise ImageError("the picture's path is empty", hint="pass the path of a picture")
    try:
        mode = Path(path).stat().st_mode
        if stat.S_ISDIR(mode):
            raise ImageError(f"{subject} is a folder, not a file", hint="pass the pictures in it one by one")
        _check_kind(mode, subject, pipes)
        # Non-blocking, because opening a pipe without a writer would block forever.
        file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(file, "rb", buffering=0) as opened:
            mode = os.fstat(file).st_mode  # the file may have been replaced since
            _check_kind(mode, subject, pipes)
            content = _Pipe(file, subject) if stat.S_ISFIFO(mode) else opened
            return Encoded(_read_bounded(content, subject, max_pixels), subject, Path(path).name)
    except ImageError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise ImageError(
            f"{subject} does not exist",
            hint="check the path"
            + ("" if Path(path).is_absolute() else "; relative paths start at the current folder"),
        ) from None
    except PermissionError:
        raise ImageError(
            f"{subject} cannot be read: permission denied", hint="check the permissions of the file and its folders"
        ) from None
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else "input/output error"
        raise ImageError(f"{subject} cannot be read: {reason}", hint=_PATH_HINT) from None
    except ValueError:  # a NUL character, a lone surrogate
        raise ImageError(f"{subject} is not a path", hint=_PATH_HINT) from None


def _check_kind(mode: int, subject: str, pipes: bool) -> None:
    """Accept regular files and pipes (`--image <(curl …)`), but no devices: /dev/zero, for instance, never ends.

    Windows has no `poll`, and thus no limit of time for pipes."""
    if stat.S_ISFIFO(mode) and not (pipes and hasattr(select, "poll")):
        raise ImageError(f"{subject} is a pipe, which can be read only once", hint="save it as a file first")
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        raise ImageError(f"{subject} is not a regular file", hint=f"pass the path of {ACCEPTED}")


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes | None: ...


class _Pipe:
    """Reads from a pipe, waiting at most `PIPE_SECONDS` for each piece."""

    def __init__(self, file: int, subject: str) -> None:
        self._file = file
        self._subject = subject
        self._poll = select.poll()  # select.select does not support descriptors above 1,023
        self._poll.register(file, select.POLLIN)

    def read(self, size: int, /) -> bytes:
        if not self._poll.poll(PIPE_SECONDS * 1000):
            raise ImageError(
                f"{self._subject} is a pipe, and nothing came through it for {PIPE_SECONDS:g} s",
                hint="check the program that writes to it",
                retryable=True,
            )
        return os.read(self._file, size)


_PATH_HINT = "check the path; pass base64 as a data URI: data:image/png;base64,…"


def _read_file_object(file: object, max_pixels: int) -> Encoded:
    name = getattr(file, "name", None)
    source = Path(name).name if isinstance(name, str) else "file object"
    subject = f"the picture in the file object {shown(source)}" if source != "file object" else "the file object"
    try:
        return Encoded(_read_bounded(file, subject, max_pixels), subject, source)  # type: ignore[arg-type]
    except ImageError:
        raise
    except Exception:  # a file object can raise anything: closed, not readable, a lost connection
        raise ImageError(
            f"{subject} cannot be read", hint="open it for reading in binary mode, and keep it open"
        ) from None


def _read_bounded(file: _Readable, subject: str, max_pixels: int) -> bytes:
    """The rest of `file`. If it does not begin like a picture, it is refused before all of it is read."""
    limit = 4 * max_pixels + (64 << 20)  # an uncompressed picture with alpha, and 64 MiB of metadata
    parts: list[bytes] = []
    size = 0
    while part := file.read(_SNIFFED if size < _SNIFFED else 1 << 20):
        if not isinstance(part, (bytes, bytearray)):
            raise ImageError(
                f"{subject} gives {type(part).__name__}, not bytes", hint='open it in binary mode: open(path, "rb")'
            )
        parts.append(bytes(part))
        size += len(part)
        if size > limit:
            raise ImageError(
                f"{subject} has more than {limit:,} bytes, the most for a picture of {max_pixels:,} pixels",
                hint="check that it is the right file, or raise max_pixels",
            )
        if size >= _SNIFFED and size - len(part) < _SNIFFED:
            file_format(b"".join(parts), subject)
    return b"".join(parts)


def shown(text: str, keep: int = 100) -> str:
    """Quote external text for a one-line message: control characters are escaped, and long text loses its middle."""
    if len(text) > keep:
        text = f"{text[: keep // 2]}…{text[-(keep // 2 - 1) :]}"
    return f"'{''.join(char if char.isprintable() else char.encode('unicode_escape').decode() for char in text)}'"


_FORMATS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
)

_CONVERT = "convert it to PNG or JPEG first"
_FOREIGN = (
    (0, b"II*\0", "a TIFF picture", _CONVERT),
    (0, b"MM\0*", "a TIFF picture", _CONVERT),
    (4, b"ftypavif", "an AVIF picture", _CONVERT),
    (4, b"ftypavis", "an AVIF picture", _CONVERT),
    (4, b"ftypheic", "a HEIC picture", _CONVERT),
    (4, b"ftypheix", "a HEIC picture", _CONVERT),
    (4, b"ftyphevc", "a HEIC picture", _CONVERT),
    (4, b"ftypmif1", "a HEIF picture", _CONVERT),
    (4, b"ftypmsf1", "a HEIF picture", _CONVERT),
    (4, b"ftyp", "a video", "save one of its frames as PNG or JPEG"),
    (0, b"\x1aE\xdf\xa3", "a video", "save one of its frames as PNG or JPEG"),
    (0, b"\xff\x0a", "a JPEG XL picture", _CONVERT),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL picture", _CONVERT),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 picture", _CONVERT),
    (0, b"8BPS", "a Photoshop document", _CONVERT),
    (0, b"\0\0\1\0", "an icon", _CONVERT),
    (0, b"%PDF-", "a PDF document", "save the page as PNG first, for instance with pdftoppm -png"),
    (0, b"PK\3\4", "a ZIP archive", "unpack it and pass the pictures in it"),
    (0, b"\x1f\x8b", "a gzip archive", "unpack it and pass the picture in it"),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the picture itself", "run: git lfs pull"),
)


def file_format(data: bytes, subject: str) -> str:
    """JPEG, PNG, WEBP, GIF or BMP, detected from the first bytes of a file. Raises `ImageError` for anything else."""
    head = data[:_SNIFFED]
    for magic, name in _FORMATS:
        if head.startswith(magic):
            return name
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    # Two letters alone are ambiguous ("BMW …"), so the size of the second header must also be valid.
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in {12, 16, 40, 52, 56, 64, 108, 124}:
        return "BMP"
    if not head:
        raise ImageError(f"{subject} is empty (zero bytes)", hint="save, copy or download it again")
    for offset, magic, what, hint in _FOREIGN:
        if head.startswith(magic, offset):
            raise ImageError(f"{subject} is {what}; expected {ACCEPTED}", hint=hint)
    if not _is_text(head):
        raise ImageError(
            f"{subject} is in no known format; expected {ACCEPTED}", hint="open it in a viewer to check it"
        )
    text = head.removeprefix(codecs.BOM_UTF8).lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")):
        raise ImageError(
            f"{subject} is a web page (HTML); expected {ACCEPTED}",
            hint="download the picture, not the page that shows it",
        )
    if text.startswith(b"<") and b"<svg" in text:
        raise ImageError(f"{subject} is an SVG drawing; expected {ACCEPTED}", hint="convert it to PNG first")
    raise ImageError(
        f"{subject} is text; expected {ACCEPTED}", hint="pass a picture file; this is a text file, whatever its name"
    )


def _is_text(head: bytes) -> bool:
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return True
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # allows an incomplete character at the end
    except UnicodeDecodeError:
        return False
    return not re.search(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]", head)
