"""Pictures of a batch: decoded and encoded once, freed, and compared with those of an earlier run."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from colm_vl import Image, Query
from colm_vl.backends.base import Request
from colm_vl.batch import pictures
from colm_vl.batch.stats import BatchStats
from processors import ImageError, images
from tests.batch.runs import calls_made, near_and_far, wording
from tests.processors.pictures import encoded
from tests.teams import FIVE
from tests.teams import scripted as team_of


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count how often pictures are decoded and encoded."""
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


RED, BLUE = (encoded(PIL.Image.new("RGB", (30, 20), colour), "BMP") for colour in ("red", "blue"))


def _as_path(folder: Path, data: bytes) -> Path:
    """A file whose size and modification time do not depend on the picture."""
    (folder / "1.bmp").write_bytes(data)
    os.utime(folder / "1.bmp", (1, 1))
    return _questions(folder, {"image": "1.bmp"})


def _as_other_path(folder: Path, data: bytes) -> Path:
    colour = "red" if data == RED else "blue"
    (folder / colour).mkdir(exist_ok=True)
    (folder / colour / "1.bmp").write_bytes(data)
    return _questions(folder, {"image": f"{colour}/1.bmp"})


def _as_data_uri(folder: Path, data: bytes) -> Path:
    return _questions(folder, {"image": "data:image/bmp;base64," + base64.b64encode(data).decode()})


def _as_parquet(folder: Path, data: bytes) -> Path:
    arrow = pytest.importorskip("pyarrow", reason="needs the extra eval")
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra eval")
    path = folder / "q.parquet"
    row = {"id": "a", "question": "Which colour?", "image": {"bytes": data, "path": "1.bmp"}}
    parquet.write_table(arrow.Table.from_pylist([row]), path)
    return path


def _questions(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "q.jsonl"
    asked = ({"id": "abc"[number], "question": "Which colour?", **row} for number, row in enumerate(rows))
    path.write_text("".join(json.dumps(row) + "\n" for row in asked))
    return path


def _ask(path: Path, out: Path) -> tuple[BatchStats, list[Any]]:
    def colour(request: Request) -> str:
        if not request.images:
            return "Answer: unknown"
        return "Answer: " + ("red" if request.images[0].pil().getpixel((0, 0)) == (255, 0, 0) else "blue")

    stats = BatchStats()
    with team_of({"near": colour}, strategy="solo") as colm:
        traces = list(colm.batch(path, out, strategy="solo,vote", stats=stats))
        assert stats.calls == sum(calls_made(colm).values())
    return stats, traces


@pytest.mark.parametrize("given", [_as_path, _as_other_path, _as_data_uri, _as_parquet])
def test_a_changed_picture_is_asked_about_again(tmp_path: Path, given: Callable[[Path, bytes], Path]) -> None:
    for data, answer in ((RED, "red"), (BLUE, "blue")):
        stats, traces = _ask(given(tmp_path, data), tmp_path / "out")
        assert [trace.answer for trace in traces] == [answer, answer]
        assert (stats.calls, stats.kept) == (1, 0)
    stats, _ = _ask(given(tmp_path, BLUE), tmp_path / "out")
    assert (stats.calls, stats.kept) == (0, 2)


def test_a_question_that_lost_its_pictures_is_asked_again(tmp_path: Path) -> None:
    _ask(_questions(tmp_path, {}), tmp_path / "out")
    stats, _ = _ask(_as_path(tmp_path, RED), tmp_path / "out")
    assert stats.kept == 0
    stats, (trace, _) = _ask(_questions(tmp_path, {}), tmp_path / "out")
    assert (stats.kept, trace.images) == (0, ())


def test_the_same_picture_in_another_place_is_not_asked_about_again(tmp_path: Path) -> None:
    _ask(_as_path(tmp_path, RED), tmp_path / "out")
    stats, _ = _ask(_as_data_uri(tmp_path, RED), tmp_path / "out")
    assert (stats.calls, stats.kept) == (0, 2)
    again = encoded(PIL.Image.new("RGB", (30, 20), "red"), "PNG")
    stats, _ = _ask(_as_data_uri(tmp_path, again), tmp_path / "out")
    assert (stats.calls, stats.kept) == (0, 2)


def test_pictures_of_finished_questions_are_not_decoded(tmp_path: Path, decoded: Counter[str]) -> None:
    _ask(_as_path(tmp_path, RED), tmp_path / "out")
    assert decoded["_decode"] == 1
    _ask(_as_path(tmp_path, RED), tmp_path / "out")
    assert decoded["_decode"] == 1


def test_a_missing_picture_fails_its_question_until_it_is_back(tmp_path: Path) -> None:
    path = _as_path(tmp_path, RED)
    _ask(path, tmp_path / "out")
    (tmp_path / "1.bmp").unlink()
    _, (trace, _) = _ask(path, tmp_path / "out")
    assert "does not exist" in trace.failures[0].message
    stats, (trace, _) = _ask(_as_path(tmp_path, RED), tmp_path / "out")
    assert (stats.calls, trace.answer) == (0, "red")


@pytest.fixture
def blocked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Reading files called gone.* blocks, as on an unreachable network share."""
    over, read = threading.Event(), images.read

    def block(source: Any, *args: Any, **options: Any) -> Any:
        if "gone." in str(source):
            over.wait()
        return read(source, *args, **options)

    monkeypatch.setattr(images, "read", block)
    yield
    over.set()


@pytest.mark.usefixtures("blocked")
def test_a_picture_that_blocks_its_reader_fails_its_question_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "PICTURE_SECONDS", 0.2)
    (tmp_path / "1.bmp").write_bytes(RED)
    path = _questions(tmp_path, {"image": "gone.bmp"}, {"image": "1.bmp"})
    _, traces = _ask(path, tmp_path / "out")
    assert [trace.answer for trace in traces] == ["", "", "red", "red"]
    assert "gone.bmp' was not read and decoded within 0.2 s" in traces[0].failures[0].message


def test_a_pipe_is_refused_in_a_batch(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    _, traces = _ask(_questions(tmp_path, {"image": "pipe.png"}), tmp_path / "out")
    assert "is a pipe, which can be read only once" in traces[0].failures[0].message


INTERRUPTED = """
import sys, threading
from colm_vl import cli
from processors import ImageError, images
read, passing = images.read, int(sys.argv.pop(1))
def block(*args, **options):
    global passing
    passing -= 1
    if passing >= 0:
        return read(*args, **options)
    sys.stdout.write("blocked\\n"); sys.stdout.flush()
    threading.Event().wait()
images.read = block
cli.main()
"""


@pytest.mark.parametrize(("passing", "resuming"), [(0, False), (1, False), (1, True)], ids=["plan", "ask", "compare"])
def test_the_first_ctrl_c_ends_a_batch_whose_picture_blocks(tmp_path: Path, passing: int, resuming: bool) -> None:
    path = _as_path(tmp_path, RED)
    team = tmp_path / "team.toml"
    team.write_text('[[clients]]\nname = "near"\nbackend = "scripted"\nmodel = "m"\nreplies = ["Answer: red"]\n')
    arguments = ["batch", str(path), "--team", str(team), "--out", str(tmp_path / "out"), "--strategy", "solo"]
    if resuming:
        subprocess.run([sys.executable, "-m", "colm_vl.cli", *arguments], check=True, capture_output=True)
    command = [sys.executable, "-c", INTERRUPTED, str(passing), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "blocked\n"
        run.send_signal(signal.SIGINT)
        begun = time.monotonic()
        run.communicate(timeout=30)
    assert run.returncode == 130
    assert time.monotonic() - begun < 5


def test_pictures_are_freed(tmp_path: Path) -> None:
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


def test_errors_of_remote_pictures_have_no_password(tmp_path: Path) -> None:
    with pytest.raises(ImageError) as raised:
        pictures.read_remote("nosuch://bob:s3cret@host/a.png?signature=s3cret")
    assert "nosuch://host/a.png" in str(raised.value)
    assert "s3cret" not in str(raised.value) + raised.value.hint
    assert "s3cret" not in pictures.subject_of("sftp://bob:s3cret@host/a.png")
