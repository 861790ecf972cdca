"""Measures how much faster a local model is with batching."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import PIL.Image
import PIL.ImageDraw

from colm_vl import prompts
from colm_vl.backends import registry
from colm_vl.backends.base import Backend, Request, Sampling
from colm_vl.errors import InputError
from colm_vl.types import Query
from processors.images import Image

from .figures import Figure

_SIDE = 84
_TOKENS = 24


def batching(model: Path, questions: int, at_once: int) -> Sequence[Figure]:
    """Questions per second of a model in a folder: with `at_once` concurrent requests, and with one at a time."""
    return asyncio.run(_batching(model, questions, at_once))


async def _batching(model: Path, questions: int, at_once: int) -> Sequence[Figure]:
    if not (model / "config.json").is_file():
        raise InputError(f"{model}: no model in this folder", hint="give the folder of a model with --model")
    kind = registry.options_class("transformers")
    options = kind.model_validate({"model": str(model), "dtype": "float32", "max_batch": at_once})
    backend = registry.connect("transformers", options)
    try:
        await backend.generate(_request(questions))  # loads the model
        requests = [_request(number) for number in range(questions)]
        begun = time.monotonic()
        alone = [(await backend.generate(request)).text for request in requests]
        single = questions / (time.monotonic() - begun)
        begun = time.monotonic()
        together = await _together(backend, requests, at_once)
        batched = questions / (time.monotonic() - begun)
    finally:
        await backend.aclose()
    same = sum(one == other for one, other in zip(alone, together, strict=True))
    return [
        Figure(
            "local model: batches compared with one request at a time",
            f"{batched / single:.1f} times",
            "≥ 3 times, the same answers",
            batched >= 3 * single and same == questions,
            f"{questions} questions about a picture, {at_once} concurrent requests: {batched:.1f} compared with "
            f"{single:.1f} per second; {same} of {questions} replies are the same",
        )
    ]


async def _together(backend: Backend, requests: Sequence[Request], at_once: int) -> Sequence[str]:
    places = asyncio.Semaphore(2 * at_once)

    async def one(request: Request) -> str:
        async with places:
            return (await backend.generate(request)).text

    return await asyncio.gather(*(one(request) for request in requests))


def _request(number: int) -> Request:
    picture = PIL.Image.new("RGB", (_SIDE, _SIDE), "white")
    pen = PIL.ImageDraw.Draw(picture)
    for dot in range(number % 5 + 1):
        pen.ellipse((8 + 15 * dot, 30 + number % 20, 20 + 15 * dot, 42 + number % 20), fill="red")
    query = Query("How many red circles are there?", (Image.open(picture),))
    return Request(prompts.draft_messages(query, "counting"), Sampling(max_tokens=_TOKENS))
