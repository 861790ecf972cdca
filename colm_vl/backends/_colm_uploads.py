"""Uploads pictures to a guidance service, each once."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakValueDictionary

from colm_vl.backends._http import HttpReply
from colm_vl.backends._http_call import Call
from colm_vl.backends._http_calls import HttpCalls
from colm_vl.backends._http_errors import StatusError
from colm_vl.types import Sent
from processors.images import Image

_MOST_KNOWN = 10_000


@dataclass(slots=True)
class ServiceCall(Call):
    """`uploaded` are the pictures that were sent for this call, in all its attempts. While it waits in the queue of the
    service, whose time does not count, `queued_since` is set and `left` is the rest of its own time."""

    uploaded: Sent = Sent()
    queued_since: float | None = None
    left: float = 0.0

    def queue(self, now: float, most: float) -> None:
        """Stop the clock; the call may wait for `most` seconds."""
        if self.queued_since is None:
            self.queued_since = now
            if self.deadline is not None:
                self.left = self.deadline - now
                self.deadline = now + most

    def begin(self, now: float) -> None:
        """Continue the clock."""
        if self.queued_since is not None and self.started is not None:
            waited = now - self.queued_since
            self.started += waited
            self.queued += waited
            self.sent = now
            if self.deadline is not None:
                self.deadline = now + self.left
            self.queued_since = None


class StatusFailure(Exception):
    """The service answered with an error status."""

    def __init__(self, error: StatusError) -> None:
        super().__init__(error.status)
        self.error = error


@dataclass(frozen=True, slots=True)
class _File:
    data: bytes
    media_type: str
    digest: str
    pixels: int


class Uploads:
    """Which pictures the service has, as far as is known. Belongs to one event loop.

    A picture is uploaded if the service says that it does not have it. While one call uploads it, others wait.
    """

    def __init__(self, calls: HttpCalls, max_pixels: int | None) -> None:
        self._calls = calls
        self._max_pixels = max_pixels
        self._known: OrderedDict[str, str] = OrderedDict()  # digests of files, by digests of pictures
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def upload(self, call: ServiceCall, images: Sequence[Image]) -> tuple[str, ...]:
        """The SHA-256 of the file of each picture. Raises `StatusFailure` if the service does not take one."""
        return tuple([await self._upload(call, image) for image in images])

    def forget(self, images: Sequence[Image]) -> None:
        """The service does not have them any more."""
        for image in images:
            self._known.pop(image.digest, None)

    async def _upload(self, call: ServiceCall, image: Image) -> str:
        lock = self._locks.setdefault(image.digest, asyncio.Lock())
        async with lock:
            known = self._known.get(image.digest)
            if known is None:
                file = await asyncio.to_thread(self._encode, image)
                if not await self._has(call, file):
                    await self._put(call, file)
                known = file.digest
            self._known[image.digest] = known
            self._known.move_to_end(image.digest)
            if len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)
        return known

    def _encode(self, image: Image) -> _File:
        uri = image.data_uri_bytes(self._max_pixels)
        head, _, encoded = uri.partition(b",")
        data = base64.b64decode(encoded)
        media_type = head.removeprefix(b"data:").removesuffix(b";base64").decode("ascii")
        pixels = image.pixels if self._max_pixels is None else image.thumbnail(self._max_pixels).pixels
        return _File(data, media_type, hashlib.sha256(data).hexdigest(), pixels)

    async def _has(self, call: ServiceCall, file: _File) -> bool:
        http = self._calls.session().http
        reply = await self._calls.in_time(call, self._calls.convert_errors(http.head(_path(file))))
        if reply.status == 404:
            reply.close()
            return False
        await self._check(call, reply)
        return True

    async def _put(self, call: ServiceCall, file: _File) -> None:
        http = self._calls.session().http
        sending = self._calls.convert_errors(http.put(_path(file), file.data, file.media_type))
        call.uploaded += Sent(len(file.data), 1, file.pixels)
        await self._check(call, await self._calls.in_time(call, sending))

    async def _check(self, call: ServiceCall, reply: HttpReply) -> None:
        if not 200 <= reply.status < 300:
            raise StatusFailure(await self._calls.in_time(call, self._calls.status_error(reply)))
        await reply.drain()
        reply.close()


def _path(file: _File) -> str:
    return f"/v1/pictures/{file.digest}"
