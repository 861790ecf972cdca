"""Measures the memory that a local model takes in a fresh process, beside what `colm-vl team plan` expects.

    python -m eval.bench.peak OPTIONS REQUESTS TOKENS SIDE

OPTIONS are those of a member, as JSON. It gets REQUESTS requests at the same time, each with a picture of SIDE × SIDE
pixels (0: none), and replies with TOKENS tokens each, if its model does not end earlier. Then each conversation goes on
with as long a reply, as when a draft is refined. Linux only.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import PIL.Image

from colm_vl.backends import registry
from colm_vl.backends.base import Generation, Message, Options, Request, Sampling
from colm_vl.pocket import team_file
from processors.images import Image


@dataclass(frozen=True, slots=True)
class Peak:
    """Bytes beyond those of the process before it loads the model: as planned, and the peak of its resident memory."""

    planned: int
    measured: int

    @property
    def error(self) -> float:
        return self.planned / self.measured - 1


def peak(options: dict[str, Any], requests: int, tokens: int, side: int, *, returns_freed: bool = False) -> Peak:
    """In a fresh process. `options` are those of a member with the backend `transformers`.

    `returns_freed`: the C library returns freed memory to the system instead of keeping it for later allocations.
    """
    environment = os.environ | ({"MALLOC_MMAP_THRESHOLD_": "1000000"} if returns_freed else {})
    command = [sys.executable, "-m", __spec__.name, json.dumps(options), str(requests), str(tokens), str(side)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)  # noqa: S603
    return Peak(**json.loads(done.stdout.splitlines()[-1]))


def _measured(options: dict[str, Any], requests: int, tokens: int, side: int) -> Peak:
    # What is allocated once is not planned for: another model is first, and this one's configuration is read.
    asyncio.run(_converse(_options({"model": str(team_file().parent / "weights" / "shapes")}), [_request(4, 84)]))
    member, asked = _options(options | {"max_batch": requests, "batch_wait": 1.0}), _request(tokens, side)
    member.footprint(asked)
    gc.collect()
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # resets the peak
    longest = asyncio.run(_converse(member, [asked] * requests))
    measured = _status("VmHWM") - before
    footprint = member.footprint(longest)
    assert footprint is not None
    return Peak(max(footprint.loading, footprint.running(requests)), measured)


async def _converse(options: Options, requests: list[Request]) -> Request:
    """Two turns of each conversation. Returns the longest request."""
    backend = registry.connect("transformers", options)
    try:
        first = await asyncio.gather(*(backend.generate(request) for request in requests))
        more = [_continued(request, generation) for request, generation in zip(requests, first, strict=True)]
        await asyncio.gather(*(backend.generate(request) for request in more))
    finally:
        await backend.aclose()
    return more[0]


def _continued(request: Request, generation: Generation) -> Request:
    turns = Message("assistant", (generation.text,)), Message("user", ("Look again.",))
    return replace(request, messages=(*request.messages, *turns), continues=generation)


def _options(options: dict[str, Any]) -> Options:
    return registry.options_class("transformers").model_validate(options)


def _request(tokens: int, side: int) -> Request:
    pictures = (Image.open(PIL.Image.effect_noise((side, side), 50).convert("RGB")),) if side else ()
    return Request((Message("user", (*pictures, "What is it?")),), Sampling(max_tokens=tokens))


def _status(field: str) -> int:
    """Bytes of a field of /proc/self/status."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    options, requests, tokens, side = sys.argv[1:]
    found = _measured(json.loads(options), int(requests), int(tokens), int(side))
    sys.stdout.write(json.dumps(asdict(found)) + "\n")
