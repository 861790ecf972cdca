"""What a user hands in as a picture, from the ordinary to the hostile."""

from __future__ import annotations

import base64
import contextlib
import copy
import io
import os
import pickle
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import override

import processors.images
from processors import FetchPolicy, Image, ImageError

SCIENCEQA = Path(__file__).parents[3] / "shared" / "conformance" / "scienceqa" / "images"

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 128, 0), (0, 0, 255), (255, 255, 255)


def corners(size: tuple[int, int] = (40, 20)) -> PIL.Image.Image:
    """Red top left, green top right, blue bottom left, white bottom right."""
    width, height = size
    picture = PIL.Image.new("RGB", size, WHITE)
    picture.paste(RED, (0, 0, width // 2, height // 2))
    picture.paste(GREEN, (width // 2, 0, width, height // 2))
    picture.paste(BLUE, (0, height // 2, width // 2, height))
    return picture


def encoded(picture: PIL.Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def photograph(size: tuple[int, int] = (400, 300)) -> PIL.Image.Image:
    """Noise of many colours, as a camera gives it."""
    bands = [PIL.Image.effect_noise(size, 90) for _ in range(3)]
    return PIL.Image.merge("RGB", bands)


def png_header_of(width: int, height: int) -> bytes:
    """A valid PNG of any size, in a few hundred kilobytes at most: all rows black, one bit a pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compressobj(9)
    body = b"".join(rows.compress(bytes(1 + (width + 7) // 8)) for _ in range(height)) + rows.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def refusal(source: object, **options: object) -> ImageError:
    """The error that `Image.open` gives; whatever it is for, it is one line with a hint and says nothing internal."""
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


# -- what opens --


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


def test_a_pipe_is_read_like_a_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(encoded(corners()),))
    writer.start()
    try:
        assert Image.open(pipe) == Image.open(corners())
    finally:
        writer.join()


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
def test_first_frame_of_an_animation_and_it_is_told(kind: str) -> None:
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


def transparent(mode: str) -> PIL.Image.Image:
    """Left half opaque black, right half fully transparent black."""
    picture = PIL.Image.new("RGBA", (10, 4), (0, 0, 0, 0))
    picture.paste((0, 0, 0, 255), (0, 0, 5, 4))
    return picture if mode == "RGBA" else picture.convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "RGBa", "La", "PA"])
def test_alpha_lands_on_white(mode: str) -> None:
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
def test_transparent_files_land_on_white(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    rgb = Image.open(encoded(transparent("RGBA"), kind, **options)).pil()
    assert rgb.getpixel((1, 1)) == (0, 0, 0)
    assert rgb.getpixel((8, 1)) == WHITE


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "1"])
def test_a_single_transparent_colour_lands_on_white(mode: str) -> None:
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
def test_real_pictures_open_and_survive_the_wire() -> None:
    paths = sorted(SCIENCEQA.iterdir())
    assert len(paths) == 64
    for path in paths:
        image = Image.open(path)
        with PIL.Image.open(path) as reference:
            assert (image.width, image.height) == reference.size
        sent = Image.open(image.data_uri(50_000))
        assert sent.pixels <= 50_000
        assert abs(sent.width / sent.height - image.width / image.height) < 0.05 * image.width / image.height


# -- the value --


def test_one_changed_pixel_or_another_shape_is_another_picture() -> None:
    picture = corners()
    first = Image.open(picture)
    picture.putpixel((39, 19), (255, 255, 254))
    assert Image.open(picture) != first
    lying = Image.open(PIL.Image.new("RGB", (40, 20)))
    standing = Image.open(PIL.Image.new("RGB", (20, 40)))
    assert lying.pil().tobytes() == standing.pil().tobytes()
    assert lying != standing
    assert len(first.digest) == 64


def test_nobody_can_change_a_picture() -> None:
    picture = corners()
    image = Image.open(picture)
    picture.paste(BLUE, (0, 0, 40, 20))
    image.pil().paste(BLUE, (0, 0, 40, 20))
    assert image.pil().getpixel((0, 0)) == RED
    with pytest.raises(AttributeError):
        image.width = 3  # type: ignore[misc]


def test_copies_and_pickles_are_equal_and_work() -> None:
    image = Image.open(corners())
    image.data_uri()
    for twin in (copy.copy(image), copy.deepcopy(image), pickle.loads(pickle.dumps(image))):
        assert twin == image
        assert twin.data_uri() == image.data_uri()
        assert twin.thumbnail(100) == image.thumbnail(100)


def test_repr_shows_no_pixels() -> None:
    assert len(repr(Image.open(photograph()))) < 250


def test_thumbnail_fits_keeps_proportions_and_is_made_once() -> None:
    image = Image.open(photograph((400, 300)))
    assert image.thumbnail(120_000) is image
    small = image.thumbnail(30_000)
    assert (small.width, small.height) == (200, 150)
    assert image.thumbnail(30_000) is small
    assert image.thumbnail(30_010) is small
    assert image.thumbnail(1).pixels == 1
    with pytest.raises(ImageError, match="0 pixels"):
        image.thumbnail(0)


@given(st.integers(1, 3_000), st.integers(1, 40), st.booleans(), st.integers(1, 5_000))
@settings(max_examples=60, deadline=None)
def test_every_thumbnail_is_within_its_budget(long: int, short: int, wide: bool, budget: int) -> None:
    image = Image.open(PIL.Image.new("RGB", (long, short) if wide else (short, long)))
    small = image.thumbnail(budget)
    assert 1 <= small.pixels <= budget or small is image
    assert small.pixels <= budget or image.pixels <= budget


def test_drawings_travel_exactly_and_photographs_small() -> None:
    drawing = corners((800, 600))
    uri = Image.open(drawing).data_uri()
    assert uri.startswith("data:image/png;base64,")
    assert Image.open(uri) == Image.open(drawing)
    photo = Image.open(photograph((800, 600)))
    assert photo.data_uri().startswith("data:image/jpeg;base64,")
    assert len(photo.data_uri()) < len(encoded(photo.pil())) * 4 / 3
    tiny = Image.open(photograph((84, 84)))
    assert Image.open(tiny.data_uri()) == tiny


def test_equal_pictures_have_equal_uris_whatever_file_they_came_from() -> None:
    picture = photograph((300, 300))
    assert len({Image.open(encoded(picture, kind)).data_uri(40_000) for kind in ("PNG", "BMP")}) == 1


def test_no_metadata_leaves_with_a_picture() -> None:
    exif = PIL.Image.Exif()
    exif[0x010E] = "taken at home, 48.2 N 16.4 E"
    for size in ((40, 20), (800, 600)):
        data = encoded(photograph(size), "JPEG", exif=exif, comment=b"taken at home")
        assert b"at home" in data
        assert b"at home" not in base64.b64decode(Image.open(data).data_uri().partition(",")[2])


def test_threads_share_one_encoding_per_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []
    encode = processors.images._encode

    def counted(picture: PIL.Image.Image) -> str:
        calls.append(picture.size)
        return encode(picture)

    monkeypatch.setattr(processors.images, "_encode", counted)
    image = Image.open(photograph((500, 400)))
    start = threading.Barrier(8)
    seen: list[tuple[str, str, bytes]] = []

    def use() -> None:
        start.wait()
        seen.append((image.data_uri(), image.data_uri(50_000), image.pil().tobytes()))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(seen)) == 1
    assert len(seen) == 8
    assert sorted(calls) == [(250, 200), (500, 400)]


def test_a_batch_of_pictures_does_not_pile_up_in_memory(tmp_path: Path) -> None:
    photograph((1_200, 850)).save(tmp_path / "photo.jpg", quality=80)
    # 25 pictures of 3 MB, each with a thumbnail and two URIs, are some 120 MB if anything holds on to them.
    script = """
import resource, sys
from processors import Image
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform != "darwin" else 1 << 20)
def use():
    image = Image.open(sys.argv[1])
    image.data_uri(), image.data_uri(500_000), image.pil()
for _ in range(4): use()
before = peak()
for _ in range(25): use()
assert peak() - before < 40, (before, peak())
"""
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "photo.jpg")], check=True, cwd=Path(__file__).parents[2]
    )


# -- what does not open --


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


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_max_pixels_binds_every_source(kind: str) -> None:
    data = encoded(corners(), kind)
    assert Image.open(data, max_pixels=800).pixels == 800
    assert "40 x 20" in str(refusal(data, max_pixels=799))
    assert "40 x 20" in str(refusal(corners(), max_pixels=799))
    assert "40 x 20" in str(refusal(Image.open(data), max_pixels=799))


@pytest.mark.parametrize("limit", [500, 100])  # Pillow warns above its limit, and raises above twice its limit
def test_pillows_own_limit_neither_warns_nor_decides(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert "not a regular file" in str(refusal("/dev/zero"))
    assert "not a path" in str(refusal("map\0.png"))
    assert len(str(refusal("x" * 100_000))) < 300
    assert "\\n" in str(refusal("a\nb.png"))


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "private.png"
    path.write_bytes(encoded(corners()))
    path.chmod(0)
    if os.access(path, os.R_OK):  # root reads everything

        def refuse(self: Path, *_: object) -> None:
            raise PermissionError(13, "Permission denied", str(self))

        monkeypatch.setattr(Path, "open", refuse)
    assert "private.png' may not be read" in str(refusal(path))


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
def test_things_that_are_no_source(source: object) -> None:
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


def test_memory_that_runs_out_is_told_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
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
