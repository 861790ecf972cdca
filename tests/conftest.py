"""Fixtures that several rooms' tests share."""

from __future__ import annotations

from io import BytesIO

import PIL.Image
import PIL.ImageDraw
import pytest

from colm_vl import Image, Query


@pytest.fixture(scope="session")
def dots_png() -> bytes:
    """A picture of five dots, as a file's content."""
    drawing = PIL.Image.new("RGB", (84, 56), "white")
    pen = PIL.ImageDraw.Draw(drawing)
    for number in range(5):
        pen.ellipse((8 + number * 14, 20, 16 + number * 14, 28), fill="red")
    file = BytesIO()
    drawing.save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def dots(dots_png: bytes) -> Query:
    return Query("How many dots are there?", images=(Image.open(dots_png),))
