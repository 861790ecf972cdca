"""Opened pictures: equality, thumbnails, data URIs, pickling."""

from __future__ import annotations

import base64
import copy
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import processors.images
from processors import Image, ImageError
from tests.processors.pictures import BLUE, RED, corners, encoded, photograph


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


def test_pictures_are_immutable() -> None:
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


def test_drawings_are_sent_as_png_and_photographs_as_jpeg() -> None:
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


def test_sent_pictures_have_no_metadata() -> None:
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


def test_pictures_of_a_batch_are_freed(tmp_path: Path) -> None:
    pytest.importorskip("resource", reason="this system does not tell the peak of memory")
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
