"""Opens the pictures of a batch: in threads, with a timeout, and shared between questions."""

from __future__ import annotations

import asyncio
import hashlib
import os
import platform
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from threading import Thread
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from colm_vl.extras import require
from colm_vl.types import ImageInfo
from processors.errors import ImageError
from processors.images import Image, ImageSource, file_digest
from processors.sources import subject_of

_T = TypeVar("_T")

PICTURE_SECONDS = 60.0
"""Timeout for opening one picture. A file on an unreachable network share blocks its reader forever."""
_AT_ONCE = min(32, (os.cpu_count() or 1) + 4)
_RECENT = 2
_MAX_REMOTE_BYTES = 64 << 20


class Pictures:
    """Opens pictures just before they are used. A picture of several consecutive questions is decoded once.

    Paths of pipes are refused, because a pipe cannot be read again. `remote`: addresses such as `s3://bucket/a.png` are
    read with fsspec; they are refused otherwise.
    """

    def __init__(self, *, remote: bool = False) -> None:
        self._remote = remote
        self._open: WeakValueDictionary[str | bytes, Image] = WeakValueDictionary()
        self._opening: dict[str | bytes, asyncio.Task[Image]] = {}
        self._recent: deque[Image] = deque(maxlen=_RECENT)
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._waiting: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def open(self, source: ImageSource) -> Image:
        """Raises `ImageError`."""
        if not isinstance(source, str | bytes):
            return Image.open(source)
        if self._remote and isinstance(source, str) and is_remote(source):
            source = await self._in_time(source, partial(read_remote, source))
        key = source if isinstance(source, str) else hashlib.sha256(source).digest()
        image = self._open.get(key)
        if image is None:
            if key not in self._opening:
                opening = asyncio.create_task(self._in_time(source, partial(Image.open, source, pipes=False)))
                self._opening[key] = opening
                opening.add_done_callback(lambda _: self._opening.pop(key))
            image = self._open[key] = await self._opening[key]
        self._recent.append(image)
        return image

    async def same(self, sources: Sequence[ImageSource], kept: Sequence[ImageInfo]) -> tuple[ImageInfo, ...] | None:
        """The `ImageInfo` of the sources if they are the pictures described by `kept`, or else None."""
        if len(sources) != len(kept):
            return None
        found = []
        for source, picture in zip(sources, kept, strict=True):
            try:
                digest = await self._file_digest(source, picture)
            except ImageError:
                digest = None
            if digest is None:
                return None
            found.append(replace(picture, file_digest=digest))
        return tuple(found)

    def close(self) -> None:
        """Open no more pictures, and cancel tasks that wait for one."""
        self._closed = True
        for task in self._waiting:
            task.cancel()

    async def _file_digest(self, source: ImageSource, kept: ImageInfo) -> str | None:
        """The digest of the source's file, or None if it is another picture than `kept`."""
        if self._remote and isinstance(source, str) and is_remote(source):
            source = await self._in_time(source, partial(read_remote, source))
        # Equal files have equal pixels, and reading a file is much faster than decoding it.
        if kept.file_digest and isinstance(source, str | bytes):
            digest = await self._in_time(source, partial(file_digest, source, pipes=False))
            if digest == kept.file_digest:
                return digest
        image = await self.open(source)
        return image.file_digest if image.digest == kept.digest else None

    async def _in_time(self, source: str | bytes, work: Callable[[], _T]) -> _T:
        with self._cancellable():
            async with self._places:
                try:
                    async with asyncio.timeout(PICTURE_SECONDS):
                        return await asyncio.wrap_future(_in_thread(work))
                except TimeoutError:
                    raise ImageError(
                        f"{subject_of(source)} was not read and decoded within {PICTURE_SECONDS:g} s",
                        hint="check the disk or the network share that it is on",
                        retryable=True,
                    ) from None

    @contextmanager
    def _cancellable(self) -> Iterator[None]:
        task = asyncio.current_task()
        if self._closed or task is None:
            raise asyncio.CancelledError
        self._waiting.add(task)
        try:
            yield
        finally:
            self._waiting.discard(task)


def is_remote(source: str) -> bool:
    """Whether it is an address that fsspec reads. Web addresses and data URIs have their own ways."""
    scheme, separator, _ = source.partition("://")
    return bool(separator) and scheme.isalnum() and scheme not in ("http", "https", "data", "file")


def read_remote(source: str) -> bytes:
    """Raises `ImageError`. Packages such as s3fs read their own settings."""
    fsspec = require("fsspec", "ray")
    try:
        with fsspec.open(source, "rb") as file:
            content: bytes = file.read(_MAX_REMOTE_BYTES + 1)
    except Exception as error:  # fsspec's file systems raise errors of their own packages
        raise ImageError(
            f"{subject_of(source)} cannot be read on {platform.node()} ({type(error).__name__})",
            hint="check the address, and the package and the credentials for it on this machine",
        ) from None
    if len(content) > _MAX_REMOTE_BYTES:
        size = f"{_MAX_REMOTE_BYTES >> 20} MB"
        raise ImageError(f"{subject_of(source)} is larger than {size}", hint="scale the picture down")
    return content


def _in_thread(work: Callable[[], _T]) -> Future[_T]:
    """Run `work` in a daemon thread, which does not keep the process from exiting, since it may be blocked forever. An
    executor would wait for its threads when the interpreter exits."""
    outcome: Future[_T] = Future()

    def run() -> None:
        with suppress(InvalidStateError):  # the future was cancelled
            try:
                result = work()
            except Exception as error:
                outcome.set_exception(error)
            else:
                outcome.set_result(result)

    Thread(target=run, name="colm-vl-picture", daemon=True).start()
    return outcome
