"""Sources of pictures, and their decoded pixels."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest

from processors import Image, ImageError, sources
from processors.images import file_digest
from tests.processors.pictures import BLUE, GREEN, RED, WHITE, corners, encoded, photograph, transparent

SCIENCEQA = Path(__file__).parents[3] / "shared" / "conformance" / "scienceqa" / "images"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_each_format_opens_with_its_colours(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"q3.{kind.lower()}"
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    path.write_bytes(encoded(corners(), kind, **options))
    image = Image.open(path)
    assert (image.width, image.height, image.pixels, image.note, image.source) == (40, 20, 800, "", path.name)
    for at, colour in {(3, 3): RED, (36, 3): GREEN, (3, 16): BLUE, (36, 16): WHITE}.items():
        seen = image.pil().getpixel(at)
        assert isinstance(seen, tuple)
        assert max(abs(a - b) for a, b in zip(seen, colour, strict=True)) <= 4


def test_every_kind_of_source_gives_the_same_picture(tmp_path: Path) -> None:
    data = encoded(corners())
    path = tmp_path / "map.png"
    path.write_bytes(data)
    uri = "data:image/png;base64," + base64.b64encode(data).decode()
    with path.open("rb") as file, path.open("rb", buffering=0) as raw:
        opened = [
            Image.open(path),
            Image.open(str(path)),
            Image.open(data),
            Image.open(bytearray(data)),
            Image.open(uri),
            Image.open(corners()),
            Image.open(io.BytesIO(data)),
            Image.open(file),
            Image.open(raw),
        ]
        assert not file.closed
    assert len({image.digest for image in opened}) == 1
    assert len(set(opened)) == 1
    assert Image.open(opened[0]) is opened[0]
    assert [image.source for image in opened] == [
        "map.png", "map.png", "bytes", "bytes", "data URI", "PIL image", "file object", "map.png", "map.png",
    ]  # fmt: skip


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_read_like_a_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(encoded(corners()),))
    writer.start()
    try:
        assert Image.open(pipe) == Image.open(corners())
    finally:
        writer.join()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_waiting_for_a_pipe_has_a_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "PIPE_SECONDS", 0.1)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ImageError, match=r"pipe' is a pipe, and nothing came through it for 0\.1 s"):
        Image.open(pipe)
    with pytest.raises(ImageError, match="is a pipe, which can be read only once"):
        Image.open(pipe, pipes=False)


def test_the_digest_of_a_file_needs_no_decoding(tmp_path: Path) -> None:
    path = tmp_path / "map.jpg"
    path.write_bytes(encoded(photograph(), "JPEG", quality=50))
    data = path.read_bytes()
    uri = "data:image/jpeg;base64," + base64.b64encode(data).decode()
    digest = hashlib.sha256(data).hexdigest()
    assert {Image.open(source).file_digest for source in (path, data, uri)} == {digest}
    assert {file_digest(source) for source in (str(path), data, uri)} == {digest}
    assert Image.open(photograph()).file_digest == Image.open(path).thumbnail(100).file_digest == ""


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[:20] + "\r\n " + text[20:],
        lambda text: text.rstrip("="),
        lambda text: text.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"),
    ],
    ids=["line breaks", "no padding", "percent-encoded"],
)
def test_data_uris_as_the_web_writes_them(spoil: Callable[[str], str]) -> None:
    text = base64.b64encode(encoded(photograph((9, 7)))).decode()
    assert Image.open("data:image/png;base64," + spoil(text)).width == 9
    assert Image.open("DATA:;charset=utf-8;BASE64," + spoil(text)).width == 9


def test_the_type_that_a_data_uri_claims_does_not_matter() -> None:
    assert Image.open("data:text/plain;base64," + base64.b64encode(encoded(corners(), "GIF")).decode()).width == 40


def test_a_file_object_is_read_from_where_it_stands() -> None:
    file = io.BytesIO(b"header" + encoded(corners()))
    file.seek(6)
    assert Image.open(file).width == 40


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation_is_used_and_noted(kind: str) -> None:
    frames = [PIL.Image.new("RGB", (10, 10), colour) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if kind == "WEBP" else {}
    image = Image.open(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    assert image.note == "first frame of 3"
    assert image.pil().getpixel((5, 5)) == RED
    assert image.thumbnail(25).note == "first frame of 3"


@pytest.mark.parametrize("carrier", ["JPEG", "PNG", "WEBP", "PIL"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(carrier: str, orientation: int) -> None:
    exif = PIL.Image.Exif()
    exif[0x010F] = "A camera with a name that does not fit into an entry"
    exif[0x0112] = orientation
    upright = corners()
    turn = {
        2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
        3: PIL.Image.Transpose.ROTATE_180,
        4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
        5: PIL.Image.Transpose.TRANSPOSE,
        6: PIL.Image.Transpose.ROTATE_90,  # what a camera turned by 270 degrees stores
        7: PIL.Image.Transpose.TRANSVERSE,
        8: PIL.Image.Transpose.ROTATE_270,
    }.get(orientation)
    stored = upright if turn is None else upright.transpose(turn)
    options: dict[str, object] = {"exif": exif, "lossless": True} if carrier == "WEBP" else {"exif": exif}
    data = encoded(stored, "PNG" if carrier == "PIL" else carrier, **options)
    if carrier == "PIL":
        with PIL.Image.open(io.BytesIO(data)) as lazy:
            image = Image.open(lazy)
    else:
        image = Image.open(data)
    assert (image.width, image.height) == (40, 20)
    seen = image.pil().getpixel((5, 5))
    assert isinstance(seen, tuple)
    assert max(abs(a - b) for a, b in zip(seen, RED, strict=True)) <= 4
    assert image.pil().getexif() == {}


def test_big_endian_exif_with_a_long_value() -> None:
    exif = b"Exif\0\0MM\0*" + struct.pack(">IHHHII", 8, 1, 0x0112, 4, 1, 6)
    assert Image.open(encoded(corners(), "JPEG", exif=exif)).width == 20


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0", b"garbage", b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x01"]
)
def test_damaged_exif_is_no_reason_to_refuse_or_warn(exif: bytes) -> None:
    assert Image.open(encoded(corners(), "JPEG", exif=exif)).width == 40


@pytest.mark.parametrize("mode", ["RGBA", "LA", "RGBa", "La", "PA"])
def test_alpha_is_blended_with_white(mode: str) -> None:
    if mode == "La":
        picture = transparent("LA").convert("La")
    elif mode == "PA":
        picture = PIL.Image.new("PA", (10, 4))
        picture.putpalette([0, 0, 0] * 256)
        picture.putalpha(transparent("RGBA").getchannel("A"))
    else:
        picture = transparent(mode)
    rgb = Image.open(picture).pil()
    assert rgb.getpixel((1, 1)) == (0, 0, 0)
    assert rgb.getpixel((8, 1)) == WHITE


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF"])
def test_transparent_files_are_blended_with_white(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    rgb = Image.open(encoded(transparent("RGBA"), kind, **options)).pil()
    assert rgb.getpixel((1, 1)) == (0, 0, 0)
    assert rgb.getpixel((8, 1)) == WHITE


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "1"])
def test_a_single_transparent_colour_is_blended_with_white(mode: str) -> None:
    picture = PIL.Image.new(mode, (4, 4), 0)
    key: object = (0, 0, 0) if mode == "RGB" else 0
    assert Image.open(encoded(picture, transparency=key)).pil().getpixel((1, 1)) == WHITE


def test_half_transparent_red_is_pink() -> None:
    rgb = Image.open(encoded(PIL.Image.new("RGBA", (4, 4), (255, 0, 0, 128)))).pil()
    assert rgb.getpixel((1, 1)) == (255, 127, 127)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV", "P", "L", "1"])
def test_other_modes_keep_their_colours(mode: str) -> None:
    black = PIL.Image.new("RGB", (6, 6), (0, 0, 0)).convert(mode)
    white = PIL.Image.new("RGB", (6, 6), WHITE).convert(mode)
    assert Image.open(black).pil().getpixel((2, 2)) == (0, 0, 0)
    assert Image.open(white).pil().getpixel((2, 2)) == WHITE


def test_a_cmyk_jpeg_is_not_a_negative() -> None:
    seen = (
        Image.open(encoded(PIL.Image.new("RGB", (16, 16), RED).convert("CMYK"), "JPEG", quality=100))
        .pil()
        .getpixel((8, 8))
    )
    assert isinstance(seen, tuple)
    assert seen[0] > 245
    assert max(seen[1:]) < 10


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    picture = PIL.Image.new("I;16", (5, 1))
    for x, value in enumerate((0, 257, 0x4000, 0x8000, 0xFFFF)):
        picture.putpixel((x, 0), value)
    for source in (picture, encoded(picture)):
        rgb = Image.open(source).pil()
        assert [rgb.getpixel((x, 0)) for x in range(5)] == [(v, v, v) for v in (0, 1, 64, 128, 255)]


def test_a_strip_opens_and_shrinks_within_its_budget() -> None:
    image = Image.open(PIL.Image.new("RGB", (1, 100_000), RED))
    small = image.thumbnail(1_000)
    assert (small.width, small.height) == (1, 1_000)
    assert Image.open(image.data_uri()) == image


@pytest.mark.skipif(not SCIENCEQA.is_dir(), reason="needs the real pictures in ../shared/conformance/scienceqa/images")
def test_real_pictures_are_opened_and_encoded() -> None:
    paths = sorted(SCIENCEQA.iterdir())
    assert len(paths) == 64
    for path in paths:
        image = Image.open(path)
        with PIL.Image.open(path) as reference:
            assert (image.width, image.height) == reference.size
        sent = Image.open(image.data_uri(50_000))
        assert sent.pixels <= 50_000
        assert abs(sent.width / sent.height - image.width / image.height) < 0.05 * image.width / image.height
