"""Fixtures that connect to endpoints and to tiny local models."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from colm_vl.backends import openai, registry
from colm_vl.backends.base import Backend
from colm_vl.backends.transformers import Options, TransformersBackend
from tests.backends.local import Connect, Tiny
from tests.endpoint import Endpoint


@pytest.fixture
async def model() -> AsyncIterator[Callable[..., Backend]]:
    """Connect to an endpoint or a base_url, by default as model "m". Connections are closed after the test."""
    connected: list[Backend] = []

    def connect_to(endpoint: Endpoint | str, **options: object) -> Backend:
        base_url = endpoint if isinstance(endpoint, str) else endpoint.base_url
        settings = {"model": "m", "base_url": base_url, "retry_delay": 0.001} | options
        connected.append(openai.connect(openai.Options.model_validate(settings)))
        return connected[-1]

    yield connect_to
    for backend in connected:
        await backend.aclose()


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
