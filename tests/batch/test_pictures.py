"""Pictures of a batch: decoded once, encoded once, let go of."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from colm_vl import Image, Query
from colm_vl.backends.base import Request
from processors import images
from tests.batch.runs import near_and_far, wording
from tests.teams import FIVE
from tests.teams import scripted as team_of


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often pictures are decoded and encoded."""
    count: Counter[str] = Counter()
    lock = threading.Lock()

    def watch(name: str, real: Callable[..., Any]) -> None:
        def counted(*args: Any) -> Any:
            with lock:
                count[name] += 1
            return real(*args)

        monkeypatch.setattr(images, name, counted)

    watch("_decode", images._decode)
    watch("_encode", images._encode)
    return count


def test_each_picture_is_decoded_once_and_encoded_once_for_each_budget(tmp_path: Path, decoded: Counter[str]) -> None:
    rows = []
    for number in range(20):
        PIL.Image.new("RGB", (90, 60), (number, 0, 0)).save(tmp_path / f"{number}.png")
        rows += [{"question": f"{ask} {number}?", "image": f"{number}.png"} for ask in ("What", "Where")]
    path = tmp_path / "q.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def encoding(max_pixels: int | None) -> Any:
        def reply(request: Request) -> str:
            assert [image.data_uri(max_pixels) for image in request.images]
            return FIVE

        return reply

    team = {"near": encoding(None), "far": encoding(None), "small": encoding(1000)}
    with team_of(team, encoding(None)) as colm:
        traces = list(colm.batch(path, tmp_path / "out", strategy="vote,verdict,colm", concurrency=3))
    assert all(trace.answer for trace in traces)
    assert decoded == {"_decode": 20, "_encode": 40}


def test_pictures_are_let_go_of(tmp_path: Path) -> None:
    alive = Counter[str]()

    def made() -> Iterator[Query]:
        import weakref

        for number in range(60):
            picture = Image.open(PIL.Image.new("RGB", (64, 64), (number, 0, 0)))
            alive["now"] += 1
            alive["most"] = max(alive["most"], alive["now"])
            weakref.finalize(picture, lambda: alive.subtract(["now"]))
            yield Query(wording(number), (picture,))
            del picture

    with near_and_far() as colm:
        for _ in colm.batch(made(), tmp_path / "out", concurrency=3):
            for backend in colm.backends.values():
                backend.requests.clear()  # they hold the pictures
    assert alive["most"] <= 20
