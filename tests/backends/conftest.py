"""Fixtures that connect to tiny local models."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from colm_vl.backends import registry
from colm_vl.backends.transformers import Options, TransformersBackend
from tests.backends.local import Connect, Tiny


@pytest.fixture(scope="session")
def endless(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that never ends its reply."""
    folder = shutil.copytree(tiny("qwen2_5_vl"), tmp_path_factory.mktemp("endless") / "model")
    file = folder / "generation_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"suppress_tokens": [config["eos_token_id"]]}))
    return folder


@pytest.fixture
async def connect(tiny: Tiny) -> AsyncIterator[Connect]:
    """Connect to a tiny model by its kind, or to a folder. It is closed after the test."""
    connected: list[TransformersBackend] = []

    def connect(model: str | Path, **options: Any) -> TransformersBackend:
        folder = tiny(model) if isinstance(model, str) else model
        backend = registry.connect("transformers", Options(model=str(folder), **{"dtype": "float32"} | options))
        assert isinstance(backend, TransformersBackend)
        connected.append(backend)
        return backend

    yield connect
    for backend in connected:
        await backend.aclose()
