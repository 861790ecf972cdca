"""Shared fixtures."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path

import PIL.Image
import PIL.ImageDraw
import pytest

from colm_vl import Image, Query
from tests import tiny_models


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """A shell's background jobs ignore Ctrl-C, and so would every process that these tests start and interrupt."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def dots_png() -> bytes:
    """The bytes of a picture file with five dots."""
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


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Maps a kind of `tests.tiny_models.KINDS` to a folder with such a model. Tests must not modify it."""

    @cache
    def folder(kind: str) -> Path:
        return tiny_models.build(kind, tmp_path_factory.mktemp("tiny") / kind)

    return folder


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `certificate.pem` and `key.pem` for pictures.test, localhost and 127.0.0.1, signed by itself."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl command to make a certificate for a server on loopback")
    folder = tmp_path_factory.mktemp("certificate")
    command = f"{openssl} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2".split()
    subject = ["-subj", "/CN=pictures.test", "-addext", "subjectAltName=DNS:pictures.test,DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    subprocess.run([*command, *subject, *files], check=True, capture_output=True)
    return folder
