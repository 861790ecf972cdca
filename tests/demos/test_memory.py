"""What the page's process keeps of its visitors: no decoded pictures, and no files once it has ended."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import httpx
import PIL.Image
import pytest

from .conftest import ROOT, environment, free_port, wait_until_listening

pytest.importorskip("gradio", reason="gradio is not installed: pip install 'colm-vl[demo]'")
VISITORS, QUESTIONS = map(int, os.environ.get("COLM_VL_VISITORS", "12,24").split(","))
"""How many visitors ask about a photograph, and how many questions they ask in total; 60,300 takes minutes."""
TEAM = """
[[clients]]
name = "one"
backend = "scripted"
model = "script"
replies = ["Answer: 5"]
"""


@dataclass(frozen=True, slots=True)
class Running:
    url: str
    process: subprocess.Popen[bytes]
    temporary: Path

    @property
    def megabytes(self) -> float:
        """Memory in use."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return int(status.split("VmRSS:")[1].split()[0]) / 1000


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Running]:
    team, log, temporary = tmp_path / "team.toml", tmp_path / "log", tmp_path / "temporary"
    team.write_text(TEAM + '[policy]\nstrategy = "vote"\n')
    temporary.mkdir()
    port = free_port()
    command = [sys.executable, "-m", "demos.image_qa", "--team", str(team), "--port", str(port)]
    # Otherwise, glibc keeps an amount of freed memory that depends on the order of events in threads.
    variables = {"TMPDIR": str(temporary), "MALLOC_MMAP_THRESHOLD_": "1000000"}
    with log.open("w") as written:
        process = subprocess.Popen(command, cwd=ROOT, stdout=written, stderr=written, env=environment() | variables)
    try:
        wait_until_listening(process, port, log)
        yield Running(f"http://127.0.0.1:{port}", process, temporary)
    finally:
        process.terminate()
        process.wait(timeout=20)


@dataclass(slots=True)
class Visitor:
    """Makes the calls that the page in a browser makes."""

    page: Running
    photo: bytes
    session: str = field(default_factory=lambda: f"{random.getrandbits(60):x}")

    def ask(self, question: str) -> str:
        """What the updates of the page hold."""
        with self._http() as http:
            (path,) = http.post("/upload", files={"files": ("photo.jpg", self.photo, "image/jpeg")}).json()
        file = {"path": path, "meta": {"_type": "gradio.FileData"}, "orig_name": "photo.jpg"}
        return self.click("ask", pictures=[{"image": file, "caption": None}], question=question)

    def click(self, button: str, **fields: object) -> str:
        """What the updates of the page hold after a click. Other fields have their first values."""
        with self._http() as http:
            config = http.get("/../config").json()
            ids = {one["props"].get("elem_id"): one["id"] for one in config["components"]}
            call = next(one for one in config["dependencies"] if [ids[button], "click"] in one["targets"])
            values = {one["id"]: one["props"].get("value") for one in config["components"]}
            values |= {ids[name]: value for name, value in fields.items()}
            data = [values.get(one) for one in call["inputs"]]
            begun = {"data": data, "fn_index": call["id"], "session_hash": self.session, "trigger_id": ids[button]}
            http.post("/queue/join", json=begun).raise_for_status()
            last = ""
            with http.stream("GET", "/queue/data", params={"session_hash": self.session}) as events:
                for line in events.iter_lines():
                    if line.startswith("data:"):
                        event = json.loads(line[5:])
                        last += json.dumps(event.get("output", ""))
                        if event["msg"] == "process_completed":
                            assert event["success"], event
                            return last
        raise AssertionError("the page ended the stream")

    def leave(self) -> None:
        """Open the connection by which the server knows that a tab is open, and close it."""
        with self._http() as http, http.stream("GET", f"/heartbeat/{self.session}") as beats:
            next(beats.iter_raw())

    def _http(self) -> httpx.Client:
        return httpx.Client(base_url=f"{self.page.url}/gradio_api", trust_env=False, timeout=120)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.timeout(600)
def test_visitors_with_photographs_leave_no_pixels_and_no_files_behind(page: Running) -> None:
    """A photograph of 12 megapixels takes 36 MB when it is decoded."""
    visitors = [Visitor(page, photograph(number)) for number in range(VISITORS)]
    assert "5" in visitors[0].ask("How many?")
    before = page.megabytes
    with ThreadPoolExecutor(4) as threads:
        asked = [visitors[number % VISITORS] for number in range(VISITORS)]
        answers = list(threads.map(Visitor.ask, asked, ["How many?"] * len(asked)))
    assert all("cv-answer" in answer for answer in answers)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(_again, visitors, [QUESTIONS // VISITORS - 1] * VISITORS))
    after = page.megabytes
    assert after - before < 200, f"{before:.0f} MB before, {after:.0f} MB after"
    assert any(page.temporary.rglob("*.*"))
    page.process.send_signal(signal.SIGTERM)
    page.process.wait(20)
    assert [path for path in page.temporary.rglob("*") if path.is_file()] == []


def _again(visitor: Visitor, times: int) -> None:
    for _ in range(times):
        visitor.ask("How many?")


def photograph(seed: int) -> bytes:
    """4000 x 3000 pixels."""
    small = PIL.Image.frombytes("RGB", (40, 30), random.Random(seed).randbytes(40 * 30 * 3))
    file = BytesIO()
    small.resize((4000, 3000)).save(file, "JPEG", quality=70)
    return file.getvalue()


def test_a_visitors_question_is_forgotten_when_the_page_is_left(page: Running) -> None:
    visitor = Visitor(page, photograph(0))
    visitor.ask("How many?")
    assert "cv-compare" in visitor.click("compare")
    visitor.leave()
    for _ in range(50):
        compared = visitor.click("compare")
        if "cv-compare" not in compared:
            break
        time.sleep(0.2)  # the server notices at its next beat
    assert "Ask a question first" in compared
