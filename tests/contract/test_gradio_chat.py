"""Gradio's chat page (`gr.load_chat`) in front of the service, asked by Gradio's own client."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from colm_vl.backends.scripted import ScriptedBackend
from colm_vl.service import keys
from colm_vl.service.app import create_app
from colm_vl.service.keys import QuotaTable
from tests.demos.conftest import environment, free_port, wait_until_listening
from tests.service.hosted import service
from tests.service.running import serving
from tests.teams import FIVE, FOUR, GUIDANCE

PICTURE = Path(__file__).parents[2] / "docs/examples/digits.png"
PAGE = """
import sys
import gradio as gr

address, key, port = sys.argv[1:]
chat = gr.load_chat(f"{address}/v1", model="colm", token=key, file_types="image", api_name="chat")
chat.launch(server_name="127.0.0.1", server_port=int(port), quiet=True)
"""


@dataclass(frozen=True, slots=True)
class Chat:
    url: str
    charts: ScriptedBackend


@pytest.fixture
def chat(tmp_path: Path) -> Iterator[Chat]:
    pytest.importorskip("gradio", reason="gradio is not installed: pip install 'colm-vl[demo]'")
    key = keys.add(tmp_path / "keys.toml", "chat", 1.0, QuotaTable())
    charts = ScriptedBackend(lambda request: FIVE if "count the dots" in str(request.messages) else FOUR)
    backends = {"dots": ScriptedBackend([FIVE]), "charts": charts, "server": ScriptedBackend([GUIDANCE])}
    port, log = free_port(), tmp_path / "log.txt"
    with serving(create_app(service(keys=tmp_path / "keys.toml", backends=backends))) as address, log.open("w") as out:
        command = [sys.executable, "-c", PAGE, address, key, str(port)]
        page = subprocess.Popen(command, stdout=out, stderr=out, env=environment() | {"GRADIO_ANALYTICS_ENABLED": "0"})
        try:
            wait_until_listening(page, port, log)
            yield Chat(f"http://127.0.0.1:{port}", charts)
        finally:
            page.terminate()
            page.wait(timeout=20)


@pytest.mark.filterwarnings("ignore")  # of Gradio's client
def test_a_chat_page_of_gradio_asks_the_team(chat: Chat) -> None:
    from gradio_client import Client, handle_file

    told: Any = {"text": "How many dots?", "files": []}
    shown = {"text": "And in this picture?", "files": [handle_file(str(PICTURE))]}
    for asked, pictures in ((told, 0), (shown, 1)):
        # One client each: Gradio 6.31 cannot read the earlier turns of its own client, unlike those of its page.
        client = Client(chat.url, verbose=False)
        job = client.submit(message=asked, api_name="/chat")
        assert job.result(timeout=120) == "5"
        assert job.outputs() == ["", "5"]  # as a stream, whose first piece is empty
        last = chat.charts.requests[-1]
        assert asked["text"] in str(last.messages)
        assert sum(len(message.images) for message in last.messages) == pictures
        client.close()
