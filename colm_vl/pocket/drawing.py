"""Draws the pictures of the pocket world: shapes, bars and handwritten digits on noisy 84 x 84 backgrounds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

from PIL import Image, ImageDraw

SIDE = 84
"""Width and height of every picture, in pixels."""

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (215, 45, 45),
    "green": (45, 160, 65),
    "blue": (50, 85, 215),
    "yellow": (235, 200, 40),
    "purple": (145, 60, 180),
    "orange": (240, 130, 35),
}
SHAPES = ("circle", "square", "triangle", "cross")

_STROKES: dict[int, tuple[tuple[tuple[float, float], ...], ...]] = {
    # Polylines in a unit box, x to the right and y down: one tuple of points for each stroke of the pen.
    0: (((0.5, 0.0), (0.15, 0.2), (0.1, 0.6), (0.3, 0.95), (0.65, 0.97), (0.88, 0.65), (0.85, 0.22), (0.5, 0.0)),),
    1: (((0.25, 0.22), (0.55, 0.0), (0.55, 1.0)),),
    2: (((0.12, 0.25), (0.35, 0.0), (0.75, 0.05), (0.85, 0.3), (0.5, 0.65), (0.1, 1.0), (0.92, 1.0)),),
    3: (((0.12, 0.08), (0.6, 0.0), (0.85, 0.22), (0.45, 0.46), (0.88, 0.7), (0.6, 1.0), (0.1, 0.92)),),
    4: (((0.65, 1.0), (0.65, 0.0), (0.08, 0.66), (0.95, 0.66)),),
    5: (((0.88, 0.0), (0.2, 0.0), (0.15, 0.45), (0.6, 0.4), (0.9, 0.68), (0.6, 1.0), (0.1, 0.93)),),
    6: (((0.8, 0.02), (0.35, 0.25), (0.12, 0.65), (0.35, 1.0), (0.75, 0.97), (0.88, 0.7), (0.55, 0.5), (0.15, 0.68)),),
    7: (((0.08, 0.0), (0.92, 0.0), (0.4, 1.0)),),
    8: (
        ((0.5, 0.45), (0.15, 0.22), (0.5, 0.0), (0.85, 0.22), (0.5, 0.45)),
        ((0.5, 0.45), (0.1, 0.75), (0.5, 1.0), (0.9, 0.75), (0.5, 0.45)),
    ),
    9: (((0.85, 0.3), (0.45, 0.5), (0.14, 0.28), (0.4, 0.0), (0.85, 0.12), (0.85, 0.35), (0.7, 1.0)),),
}


@dataclass(frozen=True, slots=True)
class Box:
    """The position of a drawn object: its centre and half of its width, in pixels."""

    x: float
    y: float
    half: float


def paper(rng: Random) -> Image.Image:
    """A light background of a random shade."""
    shade = rng.randint(205, 255)
    tint = tuple(min(255, shade + rng.randint(-12, 12)) for _ in range(3))
    return Image.new("RGB", (SIDE, SIDE), tint)


def ink(rng: Random, colour: str) -> tuple[int, int, int]:
    """A random shade of the named colour."""
    red, green, blue = (max(0, min(255, value + rng.randint(-22, 22))) for value in COLOURS[colour])
    return red, green, blue


def add_noise(rng: Random, picture: Image.Image) -> Image.Image:
    """`picture` with noise of random strength."""
    grain = Image.frombytes("L", picture.size, rng.randbytes(SIDE * SIDE)).convert("RGB")
    return Image.blend(picture, grain, rng.uniform(0.0, 0.1))


def draw_shape(rng: Random, pen: ImageDraw.ImageDraw, shape: str, colour: str, box: Box) -> None:
    """Draw one of `SHAPES`, sometimes with a dark outline."""
    x, y, half = box.x, box.y, box.half
    fill = ink(rng, colour)
    outline = (40, 40, 40) if rng.random() < 0.3 else fill
    if shape == "circle":
        pen.ellipse((x - half, y - half, x + half, y + half), fill=fill, outline=outline)
    elif shape == "square":
        side = half * 0.88
        pen.rectangle((x - side, y - side, x + side, y + side), fill=fill, outline=outline)
    elif shape == "triangle":
        pen.polygon(((x, y - half), (x + half, y + half * 0.8), (x - half, y + half * 0.8)), fill=fill, outline=outline)
    else:
        arm = half * rng.uniform(0.28, 0.4)
        pen.rectangle((x - half, y - arm, x + half, y + arm), fill=fill)
        pen.rectangle((x - arm, y - half, x + arm, y + half), fill=fill)


def draw_digit(rng: Random, pen: ImageDraw.ImageDraw, digit: int, box: Box) -> None:
    """Draw a digit like handwriting: slanted, stretched, with small random shifts."""
    height, width = box.half * 2, box.half * rng.uniform(1.0, 1.45)
    slant, turn = rng.uniform(-0.12, 0.12), rng.uniform(-0.08, 0.08)
    shade = rng.randint(0, 70)
    line = rng.randint(3, 5)
    for stroke in _STROKES[digit]:
        points: list[tuple[float, float]] = []
        for across, down in stroke:
            dx = (across - 0.5 + slant * (0.5 - down)) * width + rng.uniform(-0.9, 0.9)
            dy = (down - 0.5) * height + rng.uniform(-0.9, 0.9)
            points.append(
                (
                    box.x + dx * math.cos(turn) - dy * math.sin(turn),
                    box.y + dx * math.sin(turn) + dy * math.cos(turn),
                )
            )
        pen.line(points, fill=(shade, shade, shade + rng.randint(0, 60)), width=line, joint="curve")


def scatter(rng: Random, count: int, half: float) -> tuple[Box, ...]:
    """`count` boxes of about `half` at random positions. Their centres are 1.9 halves apart if there is room."""
    boxes: list[Box] = []
    apart = 1.9 * half
    while len(boxes) < count:
        for _ in range(40):
            size = half * rng.uniform(0.8, 1.1)
            box = Box(rng.uniform(half, SIDE - half), rng.uniform(half, SIDE - half), size)
            if all(math.hypot(box.x - other.x, box.y - other.y) >= apart for other in boxes):
                boxes.append(box)
                break
        else:
            boxes.clear()
            apart *= 0.95
    return tuple(boxes)
