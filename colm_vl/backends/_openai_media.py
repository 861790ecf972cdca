"""Pictures that vLLM keeps by a uuid, so that they need not be sent again (docs/features/multimodal_inputs.md).

Whoever knows a uuid can use its picture, and vLLM does not check that a uuid always comes with the same picture. So it
is computed from the picture's pixels, from whom the call is made for, and from a secret of this process.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from colm_vl.backends._http_errors import StatusError
from colm_vl.backends.base import Request
from processors.images import Image

_MOST_KNOWN = 10_000
_MISSING = re.compile(r"cache miss|data is not provided|\buuid", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Named:
    """`kept`: the endpoint should have the picture of this uuid, so it is not sent."""

    uuid: str
    kept: bool


class KeptPictures:
    """Which pictures the endpoint should have. It can drop any of them at any time."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._known: OrderedDict[str, None] = OrderedDict()

    def names(self, request: Request, max_pixels: int | None) -> Mapping[Image, Named]:
        named = {image: self._uuid(request.scope, image, max_pixels) for image in request.images}
        return {image: Named(uuid, uuid in self._known) for image, uuid in named.items()}

    def learn(self, names: Iterable[Named]) -> None:
        """A request with these pictures was answered."""
        for name in names:
            self._known[name.uuid] = None
            self._known.move_to_end(name.uuid)
        while len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)

    def lacks(self, names: Iterable[Named], error: StatusError) -> bool:
        """Whether a request was refused because pictures were not sent. They are sent from now on."""
        omitted = [name.uuid for name in names if name.kept]
        if not omitted or error.status not in (400, 422, 500) or not _MISSING.search(error.searched):
            return False
        for uuid in omitted:
            self._known.pop(uuid, None)
        return True

    def _uuid(self, scope: str, image: Image, max_pixels: int | None) -> str:
        text = f"{len(scope)} {scope} {image.digest} {max_pixels}"
        return hmac.new(self._secret, text.encode("utf-8", "surrogatepass"), "sha256").hexdigest()
