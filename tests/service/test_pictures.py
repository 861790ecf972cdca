"""The store of uploaded pictures: who sees them, how many are kept, for how long."""

from __future__ import annotations

import asyncio
import hashlib
import io

import PIL.Image
import pytest

from colm_vl.errors import ImageError, InputError
from colm_vl.service.pictures import MissingPicture, PictureLimits, PictureStore, PictureTooLarge


def png(number: int, side: int = 16) -> bytes:
    file = io.BytesIO()
    PIL.Image.new("RGB", (side, side), (number % 256, number // 256, 7)).save(file, "PNG")
    return file.getvalue()


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def put(store: PictureStore, owner: str, number: int) -> str:
    data = png(number)
    await store.put(owner, sha(data), data)
    return sha(data)


async def test_a_picture_is_opened_as_it_was_uploaded() -> None:
    store = PictureStore()
    digest = await put(store, "ann", 3)
    assert store.has("ann", digest)
    (first, again) = await store.open("ann", [digest, digest])
    assert first is again
    assert (first.file_digest, first.width, first.pil().getpixel((0, 0))) == (digest, 16, (3, 0, 7))


async def test_a_picture_belongs_to_the_key_that_uploaded_it() -> None:
    store = PictureStore()
    digest = await put(store, "ann", 1)
    assert not store.has("bob", digest)
    with pytest.raises(MissingPicture, match=digest):
        await store.open("bob", [digest])
    await put(store, "bob", 1)
    assert len(store) == 2
    assert store.has("bob", digest)


async def test_only_pictures_of_the_stated_digest_are_kept() -> None:
    store = PictureStore(PictureLimits(pixels=400))
    with pytest.raises(InputError, match="SHA-256"):
        await store.put("ann", sha(b"another"), png(1))
    with pytest.raises(ImageError, match="text"):
        await store.put("ann", sha(b"no picture"), b"no picture")
    with pytest.raises(ImageError, match="at most 400 are allowed"):
        await store.put("ann", sha(png(1, 21)), png(1, 21))
    assert (len(store), store.size) == (0, 0)


async def test_the_bytes_of_a_key_and_of_all_are_bounded_and_the_longest_unused_goes_first() -> None:
    size = len(png(1))
    store = PictureStore(PictureLimits(each=3 * size, total=5 * size))
    ann = [await put(store, "ann", number) for number in (1, 2, 3)]
    assert store.has("ann", ann[0])  # a use
    ann.append(await put(store, "ann", 4))
    assert [store.has("ann", digest) for digest in ann] == [True, False, True, True]
    bob = [await put(store, "bob", number) for number in (1, 2, 3)]
    assert store.size <= 5 * size
    assert [store.has("bob", digest) for digest in bob] == [True] * 3
    assert [store.has("ann", digest) for digest in ann].count(True) == 2
    with pytest.raises(PictureTooLarge):
        await store.put("ann", sha(png(1) * 4), png(1) * 4)


async def test_a_picture_is_dropped_once_it_was_not_used_for_a_while() -> None:
    now = 0.0
    store = PictureStore(PictureLimits(age=60), clock=lambda: now)
    digest, other = await put(store, "ann", 1), await put(store, "ann", 2)
    now = 50.0
    await store.open("ann", [digest])
    now = 100.0
    assert store.has("ann", digest)
    assert not store.has("ann", other)
    now = 200.0
    assert not store.has("ann", digest)
    assert (len(store), store.size) == (0, 0)


async def test_what_is_decoded_is_bounded_too_and_decoded_again_when_needed() -> None:
    store = PictureStore(PictureLimits(decoded=16 * 16 * 3))
    digests = [await put(store, "ann", number) for number in range(3)]
    first = await store.open("ann", digests)
    again = await store.open("ann", digests)
    assert [image.digest for image in first] == [image.digest for image in again]
    assert first[0] is not again[0]


async def test_a_picture_that_is_dropped_while_a_request_uses_it_stays_usable() -> None:
    size = len(png(1))
    store = PictureStore(PictureLimits(each=size, decoded=0))
    digest = await put(store, "ann", 1)
    opening = asyncio.create_task(store.open("ann", [digest]))
    await asyncio.sleep(0)
    await put(store, "ann", 2)
    (image,) = await opening
    assert image.file_digest == digest
    assert not store.has("ann", digest)
