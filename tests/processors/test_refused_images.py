"""Files that are refused as pictures, by mistake or hostile."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import struct
import time
import zlib
from pathlib import Path

import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import override

import processors.images
from processors import FetchPolicy, Image, ImageError
from tests.processors.pictures import corners, encoded, photograph, transparent


def png_header_of(width: int, height: int) -> bytes:
    """A valid PNG of any size, in a few hundred kilobytes at most: all rows black, one bit a pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compressobj(9)
    body = b"".join(rows.compress(bytes(1 + (width + 7) // 8)) for _ in range(height)) + rows.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def refusal(source: object, **options: object) -> ImageError:
    """The error of `Image.open`. It must be one line with a hint and without internal details."""
    with pytest.raises(ImageError) as caught:
        Image.open(source, **options)  # type: ignore[arg-type]
    error = caught.value
    assert "\n" not in str(error)
    assert error.hint
    assert "\n" not in error.hint
    assert "0x" not in str(error).lower()
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None
    return error


def test_a_huge_picture_in_a_small_file_is_refused_at_once(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    data = png_header_of(20_000, 20_000)
    assert len(data) < 400_000
    path = tmp_path / "bomb.png"
    path.write_bytes(data)
    start = time.perf_counter()
    error = refusal(path)
    assert time.perf_counter() - start < 0.1
    assert "bomb.png" in str(error)
    assert "20,000 x 20,000" in str(error)
    assert "64,000,000" in str(error)
    assert not recwarn.list


def progressive_with(scans: int, size: tuple[int, int]) -> bytes:
    """A progressive JPEG whose last, empty scan is repeated."""
    data = encoded(PIL.Image.new("RGB", size, "white"), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * (scans - data.count(b"\xff\xda")) + data[-2:]


def test_a_jpeg_of_many_scans_is_refused_before_it_is_decoded() -> None:
    data = progressive_with(400, (6_000, 6_000))
    assert len(data) < 300_000
    start = time.perf_counter()
    assert "400 scans over 36,000,000 pixels" in str(refusal(data))
    assert time.perf_counter() - start < 0.5
    assert "600 scans" in str(refusal(progressive_with(600, (8, 8))))


def test_a_jpeg_may_have_the_scans_that_encoders_write() -> None:
    picture = photograph((300, 200))
    data = encoded(picture, "JPEG", progressive=True, quality=90)
    thumbnail = b"\xff\xe2" + struct.pack(">H", 2 + 30_000) + b"\xff\xda" * 15_000  # not of this picture
    assert data.count(b"\xff\xda") > 5
    for max_pixels in (60_000, 64_000_000):
        assert Image.open(data[:2] + thumbnail + data[2:], max_pixels=max_pixels) == Image.open(data)
    assert Image.open(encoded(picture, "JPEG", restart_marker_blocks=1)).width == 300


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_max_pixels_applies_to_every_source(kind: str) -> None:
    data = encoded(corners(), kind)
    assert Image.open(data, max_pixels=800).pixels == 800
    assert "40 x 20" in str(refusal(data, max_pixels=799))
    assert "40 x 20" in str(refusal(corners(), max_pixels=799))
    assert "40 x 20" in str(refusal(Image.open(data), max_pixels=799))


@pytest.mark.parametrize("limit", [500, 100])  # Pillow warns above its limit, and raises above twice its limit
def test_pillows_own_size_limit_has_no_effect(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", limit)
    assert Image.open(encoded(corners())).pixels == 800
    assert "40 x 20" in str(refusal(encoded(corners()), max_pixels=700))


def test_a_webp_of_the_largest_size_is_refused_without_its_canvas() -> None:
    canvas = b"VP8X" + struct.pack("<I", 10) + bytes(4) + b"\xfe\x3f\x00" * 2
    body = canvas + encoded(corners(), "WEBP", lossless=True)[12:]
    message = str(refusal(b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body))
    assert "pixels" in message or "header" in message  # older decoders refuse the header themselves


def test_missing_files_and_folders(tmp_path: Path) -> None:
    assert "'nowhere/map.png' does not exist" in str(refusal("nowhere/map.png"))
    (tmp_path / "file").write_bytes(b"x")
    assert "does not exist" in str(refusal(tmp_path / "file" / "map.png"))
    assert "is a folder" in str(refusal(tmp_path))
    assert "path is empty" in str(refusal(""))
    if Path("/dev/zero").exists():  # not on Windows
        assert "not a regular file" in str(refusal("/dev/zero"))
    assert "not a path" in str(refusal("map\0.png"))
    assert len(str(refusal("x" * 100_000))) < 300
    assert "\\n" in str(refusal("a\nb.png"))


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "private.png"
    path.write_bytes(encoded(corners()))
    path.chmod(0)
    if os.access(path, os.R_OK):  # root reads everything

        def refuse(path: str, *_: object) -> None:
            raise PermissionError(13, "Permission denied", path)

        monkeypatch.setattr(os, "open", refuse)
    assert "private.png' cannot be read: permission denied" in str(refusal(path))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "zero bytes"),
        (b"I am a picture, honestly", "is text"),
        (b"BMW made this list of cars for you, thirty characters and more", "is text"),
        ("Größe, Maß".encode() * 9_000, "is text"),
        ("a text".encode("utf-16"), "is text"),
        (b'<?xml version="1.0"?>\n<!-- x -->\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b'\xef\xbb\xbf <SVG width="4"/>', "SVG"),
        (b"<!DOCTYPE html><html><svg/></html>", "web page"),
        (b"II*\0\x08\0\0\0", "TIFF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "AVIF"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "video"),
        (b"%PDF-1.7\n%\xe2\xe3", "PDF"),
        (b"PK\3\4 and so on", "ZIP"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "Git LFS"),
        (bytes(range(256)) * 4, "no known format"),
        (bytes(100), "no known format"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_picture_is_named(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "q3.png"
    path.write_bytes(data)
    for source, name in ((path, "q3.png"), (data, "bytes"), (io.BytesIO(data), "file object")):
        error = refusal(source)
        assert said in str(error)
        assert name in str(error)
    uri = "data:image/png;base64," + base64.b64encode(data).decode()
    assert said in str(refusal(uri))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.95])
def test_truncated_pictures(tmp_path: Path, kind: str, part: float) -> None:
    data = encoded(photograph((120, 90)), kind)
    path = tmp_path / "cut.png"
    path.write_bytes(data[: int(len(data) * part)])
    assert "cut.png' is truncated or damaged" in str(refusal(path))


def test_a_large_file_that_is_no_picture_is_not_read_to_its_end(tmp_path: Path) -> None:
    class Endless(io.RawIOBase):
        given = 0

        @override
        def read(self, size: int = -1) -> bytes:
            self.given += size
            return b"\x01" * size

    endless = Endless()
    assert "no known format" in str(refusal(endless))
    assert endless.given <= 1 << 16


def test_a_picture_followed_by_endless_bytes_is_cut_off() -> None:
    class Endless(io.RawIOBase):
        data = encoded(corners())

        @override
        def read(self, size: int = -1) -> bytes:
            head, self.data = self.data[:size], self.data[size:]
            return head + bytes(size - len(head))

    assert "more than" in str(refusal(Endless(), max_pixels=1_000))


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("data:image/png;base64", "no comma"),
        ("data:image/png,abc", "not in base64"),
        ("data:image/svg+xml,%3Csvg/%3E", "not in base64"),
        ("data:image/png;base64,iVBORw0KGgo!AAA", "'!' at position 11"),
        ("data:image/png;base64,iVBORw0KG-_o", "'-' at position 9"),
        ("data:image/png;base64,iVBOR", "cannot be whole bytes"),
        ("data:image/png;base64,", "zero bytes"),
        ("data:image/png;base64,iVBORw0KGgo=", "truncated or damaged"),
    ],
)
def test_wrong_data_uris(uri: str, said: str) -> None:
    assert said in str(refusal(uri))


def test_urls_without_a_policy() -> None:
    error = refusal("https://me:s3cret@img.example.org/a.png?signature=s3cret")
    assert "//img.example.org/a.png" in str(error)
    assert "fetching is off" in str(error)
    assert "s3cret" not in str(error) + error.hint
    assert "scheme http:" in str(refusal("http://img.example.org/a.png", fetch=FetchPolicy({"img.example.org"})))
    assert "scheme ftp:" in str(refusal("ftp://img.example.org/a.png"))
    assert "pass the path" in refusal("file:///tmp/a.png").hint


@pytest.mark.parametrize("source", [None, 7, ["a.png"], object()])
def test_unsupported_sources(source: object) -> None:
    assert type(source).__name__ in str(refusal(source))


def test_file_objects_that_do_not_give_bytes(tmp_path: Path) -> None:
    path = tmp_path / "q3.png"
    path.write_bytes(encoded(corners()))
    assert "not bytes" in str(refusal(io.StringIO("text")))
    with path.open() as text:
        assert "binary" in refusal(text).hint
    with path.open("rb") as closed:
        pass
    assert "cannot be read" in str(refusal(closed))


def test_out_of_memory_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_out(picture: PIL.Image.Image) -> PIL.Image.Image:
        raise MemoryError

    monkeypatch.setattr(processors.images, "_to_rgb", run_out)
    error = refusal(encoded(corners()))
    assert "40 x 20 pixels does not fit into memory" in str(error)
    assert error.retryable


def test_pillow_images_that_have_nothing_to_show(tmp_path: Path) -> None:
    assert "no pixels" in str(refusal(PIL.Image.new("RGB", (0, 5))))
    assert "mode F" in str(refusal(PIL.Image.new("F", (5, 5))))
    assert "mode I" in str(refusal(PIL.Image.new("I", (5, 5))))
    path = tmp_path / "q3.png"
    path.write_bytes(encoded(photograph())[:-5_000])
    with PIL.Image.open(path) as lazy:
        assert "truncated" in str(refusal(lazy))
    assert "closed" in str(refusal(lazy))


SEEDS = [
    encoded(corners((12, 7)), "JPEG"),
    encoded(corners((12, 7))),
    encoded(transparent("RGBA"), "PNG"),
    encoded(corners((12, 7)), "WEBP"),
    encoded(corners((12, 7)), "GIF", save_all=True, append_images=[photograph((12, 7))]),
    encoded(corners((12, 7)), "BMP"),
]


@given(st.binary(max_size=200), st.sampled_from([b"", *(seed[:8] for seed in SEEDS), SEEDS[3][:16]]))
@settings(max_examples=150, deadline=None)
def test_random_bytes_raise_nothing_but_image_errors(tail: bytes, head: bytes) -> None:
    with pytest.raises(ImageError):
        Image.open(head + tail)


@given(st.sampled_from(SEEDS), st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_pictures_open_or_raise_image_errors(seed: bytes, data: st.DataObject) -> None:
    spoiled = bytearray(seed[: data.draw(st.integers(0, len(seed)))])
    for _ in range(data.draw(st.integers(0, 4))):
        if spoiled:
            spoiled[data.draw(st.integers(0, len(spoiled) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ImageError):
        image = Image.open(bytes(spoiled), max_pixels=1_000_000)
        assert image.pil().size == (image.width, image.height)


@given(st.text(max_size=80))
@settings(max_examples=100, deadline=None)
def test_random_text_raises_nothing_but_image_errors(text: str) -> None:
    for source in (text, "data:image/png;base64," + text, "https://" + text, "data:" + text):
        with pytest.raises(ImageError):
            Image.open(source, fetch=FetchPolicy(()))
