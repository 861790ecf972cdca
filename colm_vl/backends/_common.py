"""Functions shared by several backends."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from colm_vl.backends.base import Request
from colm_vl.errors import Unsupported
from colm_vl.types import Sent
from processors.images import Image

# "Ġ", "▁" and "Ċ" represent white space in vocabularies.
_LETTER = re.compile(r"[\s\"'(\[*{:ĠĊ▁]{0,4}([A-Z])[\s\"')\]*}.,:;ĠĊ▁]{0,4}")


def check_pictures(request: Request, limit: int | None, model: str) -> None:
    """Raises `Unsupported` if the request has more than `limit` pictures (None: no limit)."""
    if limit is None:
        return
    count = len(request.images)
    if count <= limit:
        return
    if limit == 0:
        raise Unsupported(
            f"model {model!r} takes text only, got {_pictures(count)}",
            hint="ask without pictures, or use a vision model",
        )
    raise Unsupported(
        f"model {model!r} takes at most {_pictures(limit)}, got {count}",
        hint="send fewer pictures, or raise max_images if the model takes more",
    )


def letter_in(token: str, letters: Collection[str]) -> str | None:
    """The letter that the token consists of, ignoring punctuation and white space: ` A`, `(A)`, `"A`, `ĠA`. Or None."""
    found = _LETTER.fullmatch(token)
    return found[1] if found and found[1] in letters else None


def summed(letters: Iterable[tuple[str, float]]) -> Mapping[str, float]:
    """The log-probability of each letter: the log of the total probability of its tokens."""
    total: dict[str, float] = {}
    for letter, logprob in letters:
        total[letter] = total.get(letter, 0.0) + math.exp(logprob)
    return {letter: math.log(mass) for letter, mass in total.items() if mass > 0}


def images_sent(images: Sequence[Image], max_pixels: int | None) -> Sent:
    """The number of pictures and their pixels, after reducing each to `max_pixels`; `bytes` is 0."""
    if not images:
        return Sent()
    shown = images if max_pixels is None else [image.thumbnail(max_pixels) for image in images]
    return Sent(images=len(images), pixels=sum(image.pixels for image in shown))


def _pictures(count: int) -> str:
    return "1 picture" if count == 1 else f"{count} pictures"
