"""A shared server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.serving.transformers_serve import Served, images_only, missing_package, serve


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A tiny Qwen2.5-VL behind `transformers serve`."""
    if missing := missing_package():
        pytest.skip(f"transformers serve needs the package {missing!r}, which is not installed")
    from tests.tiny_models import build

    folder = tmp_path_factory.mktemp("served")
    with serve(images_only(build("qwen2_5_vl", folder / "checkpoint"), folder / "images-only")) as server:
        yield server
