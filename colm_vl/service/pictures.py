"""Uploaded pictures: kept for a while, by the SHA-256 of their files, each for the key that uploaded it."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from colm_vl.errors import InputError
from processors.images import DEFAULT_MAX_PIXELS, Image

_BYTES_A_PIXEL = 3
DECODED_AT_ONCE = 2
"""Decoding takes up to 16 bytes for each pixel for a moment."""


class MissingPicture(InputError):
    """A picture was never uploaded by this key, or is not kept any more."""

    kind = "missing_picture"


class PictureTooLarge(InputError):
    """A picture's file has more bytes than allowed."""

    kind = "too_large"


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """`each` and `total` are bytes of files for each key and for all; `age` are the seconds after its last use for
    which a picture is kept. `decoded` are bytes of decoded pictures that are kept to be used again."""

    each: int = 128 << 20
    total: int = 1 << 30
    age: float = 3600.0
    pixels: int = DEFAULT_MAX_PIXELS
    decoded: int = 256 << 20


class _Key(NamedTuple):
    owner: str
    digest: str


@dataclass(slots=True)
class _Kept:
    data: bytes
    used: float


class PictureStore:
    """Pictures in memory. The one that was not used for the longest time is dropped first."""

    def __init__(self, limits: PictureLimits | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits or PictureLimits()
        self._clock = clock
        self._files: OrderedDict[_Key, _Kept] = OrderedDict()  # the least recently used first
        self._decoded: OrderedDict[_Key, Image] = OrderedDict()
        self._bytes: Counter[str] = Counter()
        self._decoding = asyncio.Semaphore(DECODED_AT_ONCE)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return self._bytes.total()

    def __len__(self) -> int:
        return len(self._files)

    def has(self, owner: str, digest: str) -> bool:
        """Whether this key has uploaded it. Counts as a use, since a request with it is about to follow."""
        return self._use(_Key(owner, digest)) is not None

    def file(self, owner: str, digest: str) -> bytes | None:
        """The bytes of a picture, None if this key has not uploaded it. Counts as a use."""
        kept = self._use(_Key(owner, digest))
        return None if kept is None else kept.data

    async def put(self, owner: str, digest: str, data: bytes) -> None:
        """Keep a picture. Raises `InputError` if `digest` is not its SHA-256, and `ImageError` if it cannot be used."""
        if len(data) > self.limits.each:
            raise PictureTooLarge(
                f"the picture has {len(data):,} bytes; at most {self.limits.each:,} are kept for a key",
                hint="reduce it first, for instance with max_pixels",
            )
        key = _Key(owner, digest)
        image = await self._decode(data, digest)
        self._drop(key)
        self._files[key] = _Kept(data, self._clock())
        self._bytes[owner] += len(data)
        self._keep_decoded(key, image)
        self._make_room(owner)

    async def open(self, owner: str, digests: Sequence[str]) -> tuple[Image, ...]:
        """The pictures, decoded. Raises `MissingPicture` if this key has not uploaded one of them."""
        keys = [_Key(owner, digest) for digest in digests]
        kept = [self._use(key) for key in keys]  # before anything is awaited, since waiting can make room
        if missing := [key.digest for key, file in zip(keys, kept, strict=True) if file is None]:
            raise MissingPicture(f"the picture {missing[0]} is not here", hint="upload it and repeat the request")
        return tuple([await self._image(key, file.data) for key, file in zip(keys, kept, strict=True) if file])

    # --- files ---

    def _use(self, key: _Key) -> _Kept | None:
        self._drop_old()
        kept = self._files.get(key)
        if kept is not None:
            kept.used = self._clock()
            self._files.move_to_end(key)
        return kept

    def _drop_old(self) -> None:
        oldest = self._clock() - self.limits.age
        while self._files:
            key, kept = next(iter(self._files.items()))
            if kept.used > oldest:
                return
            self._drop(key)

    def _make_room(self, owner: str) -> None:
        self._drop_old()
        while self._bytes[owner] > self.limits.each:
            self._drop(next(key for key in self._files if key.owner == owner))
        while self._bytes.total() > self.limits.total:
            self._drop(next(iter(self._files)))

    def _drop(self, key: _Key) -> None:
        self._decoded.pop(key, None)
        kept = self._files.pop(key, None)
        if kept is not None:
            self._bytes[key.owner] -= len(kept.data)
            if not self._bytes[key.owner]:
                del self._bytes[key.owner]

    # --- decoded pictures ---

    async def _decode(self, data: bytes, digest: str) -> Image:
        async with self._decoding:
            return await asyncio.to_thread(self._open, data, digest)

    def _open(self, data: bytes, digest: str) -> Image:
        if hashlib.sha256(data).hexdigest() != digest:
            raise InputError("the SHA-256 of the picture is not that of its address", hint="send the file's bytes")
        return Image.open(data, max_pixels=self.limits.pixels)

    async def _image(self, key: _Key, data: bytes) -> Image:
        image = self._decoded.get(key)
        if image is None:
            image = await self._decode(data, key.digest)
        self._keep_decoded(key, image)
        return image

    def _keep_decoded(self, key: _Key, image: Image) -> None:
        self._decoded[key] = image
        self._decoded.move_to_end(key)
        held = sum(each.pixels for each in self._decoded.values()) * _BYTES_A_PIXEL
        while held > self.limits.decoded and self._decoded:
            _, dropped = self._decoded.popitem(last=False)
            held -= dropped.pixels * _BYTES_A_PIXEL
