"""Requests for local models, and helpers to inspect them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from colm_vl import Image
from colm_vl.backends._batch import conversation_of
from colm_vl.backends._decoding import Detokenizer
from colm_vl.backends.base import Generation, Message, Request, Sampling
from colm_vl.backends.transformers import TransformersBackend

Tiny = Callable[[str], Path]
Connect = Callable[..., TransformersBackend]


def picture(width: int = 84, height: int = 56, colour: str = "red") -> Image:
    return Image.open(PIL.Image.new("RGB", (width, height), colour))


def ask(*parts: str | Image, timeout: float | None = None, **sampling: Any) -> Request:
    return Request((Message("user", parts),), Sampling(**{"max_tokens": 16} | sampling), timeout=timeout)


def mixed() -> list[Request]:
    """No, one and two pictures; prompts and replies of several lengths."""
    return [
        ask("Hi", max_tokens=11),
        ask(picture(), "What is it?", max_tokens=24),
        ask(picture(56, 112, "blue"), "A rather longer question about the picture: what is it?", max_tokens=5),
        ask(picture(), picture(112, 56, "green"), "Which is larger?"),
    ]


async def together(backend: TransformersBackend, requests: list[Request]) -> list[Generation]:
    return await asyncio.gather(*(backend.generate(request) for request in requests))


async def spied(backend: TransformersBackend, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Record the inputs of the model's `generate` and its number of steps."""
    await backend.capabilities()
    model = backend._worker._loaded().model
    calls: list[dict[str, Any]] = []
    generate = model.generate

    def spy(**inputs: Any) -> Any:
        calls.append(inputs)
        output = generate(**inputs)
        inputs["steps"] = output.sequences.shape[1] - inputs["input_ids"].shape[1]
        return output

    monkeypatch.setattr(model, "generate", spy)
    return calls


async def settled(backend: TransformersBackend) -> None:
    """Wait until the conversation of a delivered reply has been cached."""
    backend._capabilities = None
    await backend.capabilities()


async def loaded(backend: TransformersBackend) -> Any:
    await backend.capabilities()
    return backend._worker._loaded()


def encoded(local: Any, request: Request) -> dict[str, Any]:
    inputs: dict[str, Any] = local.family.encode([conversation_of(request)])
    return inputs


def decoded(local: Any, ids: Any, inputs: dict[str, Any]) -> str:
    detokenizer = Detokenizer(local.family.tokenizer)
    pieces = [detokenizer.push(token) for token in ids[0, inputs["input_ids"].shape[1] :].tolist()]
    return "".join(pieces) + detokenizer.flush()
