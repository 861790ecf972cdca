"""Pictures for tests."""

from __future__ import annotations

import io

import PIL.Image

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


def transparent(mode: str) -> PIL.Image.Image:
    """Left half opaque black, right half fully transparent black."""
    picture = PIL.Image.new("RGBA", (10, 4), (0, 0, 0, 0))
    picture.paste((0, 0, 0, 255), (0, 0, 5, 4))
    return picture if mode == "RGBA" else picture.convert(mode)
