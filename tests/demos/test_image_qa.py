"""The page's command line, its API, and what its server must not expose."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from colm_vl import Trace
from demos import image_qa

from .conftest import ROOT, Served, free_port


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of `python -m demos.image_qa …`."""
    monkeypatch.setattr(sys, "argv", ["image_qa", *arguments])
    with pytest.raises(SystemExit) as ended:
        image_qa.main()
    return int(ended.value.code or 0)


def test_help_explains_host_and_api(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--help") == 0
    said = capsys.readouterr().out
    for word in ("--team", "--feedback", "pocket team", "gradio_client", "--host 0.0.0.0"):
        assert word in " ".join(said.split())


def test_errors_at_startup_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, team_file: Path
) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("[[clients]]\nnam = 'x'\n")
    keyless = tmp_path / "keyless.toml"
    keyless.write_text(
        '[[clients]]\nname = "x"\nbackend = "openai"\nmodel = "m"\n'
        'base_url = "http://127.0.0.1:9/v1"\napi_key_env = "COLM_VL_NO_SUCH_KEY"\n[policy]\nstrategy = "vote"\n'
    )
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for arguments, words in (
            (["--team", str(bad)], "bad.toml"),
            (["--team", str(tmp_path / "none.toml")], "no such team file"),
            (["--team", str(keyless)], "environment variable 'COLM_VL_NO_SUCH_KEY', named by api_key_env, is not set"),
            (["--team", str(team_file), "--port", str(taken.getsockname()[1])], "cannot listen on 127.0.0.1"),
            (["--team", str(team_file), "--host", "nowhere.invalid"], "cannot listen on nowhere.invalid"),
            (["--team", str(team_file), "--feedback", str(tmp_path / "none" / "f.jsonl")], "feedback file"),
        ):
            port = [] if "--port" in arguments else ["--port", str(free_port())]
            assert run(monkeypatch, *arguments, *port) == 2
            said = capsys.readouterr().err
            assert words in said
            assert len(said.strip().splitlines()) == 1


def test_the_error_for_a_missing_gradio_has_the_pip_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], team_file: Path
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert run(monkeypatch, "--team", str(team_file), "--port", str(free_port())) == 2
    assert "pip install 'colm-vl[demo]'" in capsys.readouterr().err


@pytest.fixture(scope="module")
def client(served: Served) -> Any:
    gradio_client = pytest.importorskip("gradio_client", reason="gradio is not installed: pip install 'colm-vl[demo]'")
    return gradio_client.Client(served.url, verbose=False)


@pytest.mark.filterwarnings("ignore")
def test_a_program_asks_and_gets_the_trace(client: Any) -> None:
    from gradio_client import handle_file

    house = ROOT / "docs/examples/house.png"
    record = client.predict(question="Whose is amber?", images=[handle_file(str(house))], api_name="/ask")
    trace = Trace.from_dict(record)
    assert (trace.answer, trace.strategy, len(trace.images)) == ("amber", "colm", 1)
    record = client.predict(
        question="Whose is violet?", images=[], choices="green\nviolet", strategy="vote", api_name="/ask"
    )
    assert (record["choice"], record["answer"], record["strategy"]) == ("B", "violet", "vote")


@pytest.mark.filterwarnings("ignore")
def test_a_program_gives_one_picture_and_a_list_of_choices(client: Any) -> None:
    from gradio_client import handle_file

    house = handle_file(str(ROOT / "docs/examples/house.png"))
    record = client.predict(question="Whose is violet?", images=house, choices=["green", "violet"], api_name="/ask")
    assert (record["choice"], len(record["images"])) == ("B", 1)
    two_lines = ["violet\nor blue", "green"]
    record = client.predict(question="Whose is violet?", choices=two_lines, api_name="/ask")
    assert record["choices"] == two_lines


@pytest.mark.filterwarnings("ignore")
def test_a_question_without_pictures_needs_no_images(client: Any) -> None:
    record = client.predict(question="Whose is amber?", api_name="/ask")
    assert (record["answer"], record["images"]) == ("amber", [])


@pytest.mark.filterwarnings("ignore")
def test_a_program_asks_a_follow_up(client: Any) -> None:
    from gradio_client import handle_file

    house = handle_file(str(ROOT / "docs/examples/house.png"))
    history = [{"role": "user", "text": "What is this?", "images": 1}, {"role": "assistant", "text": "A house"}]
    record = client.predict(question="Whose is amber?", images=house, history=history, api_name="/ask")
    assert [turn.text for turn in Trace.from_dict(record).history] == ["What is this?", "A house"]
    again = client.predict(question="Whose is violet?", images=house, history=record["history"], api_name="/ask")
    assert again["history"] == record["history"]


@pytest.mark.filterwarnings("ignore")
def test_api_errors_are_readable(client: Any) -> None:
    for wrong, words in (
        ({"question": " "}, "Write a question first"),
        ({"question": "How?", "rounds": 99}, "rounds"),
        ({"question": "How?", "history": "earlier"}, "history has another form than"),
        ({"question": "How?", "history": [{"role": "user", "text": "?", "images": 1}]}, "with 1 pictures, but 0 are"),
        ({"question": "How?", "rounds": "two"}, "rounds is 'two', expected a whole number"),
        ({"question": "How?", "choices": {"A": "cat"}}, "expected a list of texts"),
        ({"question": "How?", "choices": ["cat", "", "dog"]}, "One of the choices is empty"),
        ({"question": "How?", "images": ["docs/examples/house.png"]}, "expected uploaded files, as by handle_file"),
    ):
        with pytest.raises(Exception, match=words):
            client.predict(**wrong, api_name="/ask")


@pytest.mark.filterwarnings("ignore")
def test_the_api_has_only_the_question(client: Any) -> None:
    assert list(client.view_api(return_format="dict")["named_endpoints"]) == ["/ask"]


def test_no_file_of_the_operator_can_be_read(served: Served, team_file: Path, tmp_path: Path) -> None:
    picture = tmp_path / "private.png"
    picture.write_bytes((ROOT / "docs/examples/house.png").read_bytes())
    with httpx.Client(base_url=f"{served.url}/gradio_api", trust_env=False) as http:
        for path in (
            "/etc/passwd",
            team_file,
            served.feedback,
            ROOT / "pyproject.toml",
            ROOT / "demos/page.py",
            picture,
        ):
            assert http.get(f"/file={path}").status_code in (403, 404)
        assert http.get("/file=../../../../etc/passwd").status_code in (403, 404)
        for path in (str(picture), "/etc/passwd"):
            assert "private" not in _ask_about(http, path)


def test_the_server_fetches_nothing_that_a_visitor_names(served: Served) -> None:
    with socket.socket() as elsewhere, httpx.Client(base_url=served.url, trust_env=False) as http:
        elsewhere.bind(("127.0.0.1", 0))
        elsewhere.listen()
        elsewhere.settimeout(1)
        url = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/x.png"
        assert http.get(f"/gradio_api/file={url}").status_code == 404
        assert http.get(f"/gradio_api/proxy={url}").status_code == 404
        file = {"path": url, "meta": {"_type": "gradio.FileData"}}
        for path, body in (
            ("/call/ask", {"data": ["What?", [file], [], "vote", "a vote of all", 1, []]}),
            ("/call/ask", {"data": ["What?", file, [], "vote", "a vote of all", 1, []]}),
            ("/queue/join", {"data": [[{"image": file, "caption": None}]], "fn_index": 0, "session_hash": "x"}),
        ):
            assert http.post(f"/gradio_api{path}", json=body).status_code == 422
        with pytest.raises(TimeoutError):
            elsewhere.accept()


def test_every_response_forbids_other_hosts(served: Served) -> None:
    response = httpx.get(served.url, trust_env=False)
    assert "default-src 'self'" in response.headers["content-security-policy"]
    config = httpx.get(f"{served.url}/config", trust_env=False).json()
    assert config["analytics_enabled"] is False


def _ask_about(http: httpx.Client, path: str) -> str:
    """The response to a request that names a file of the server instead of an uploaded one."""
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    begun = http.post("/call/ask", json={"data": ["What?", [file], "", "vote", "a vote of all", 1, []]})
    if begun.status_code != 200:
        return ""
    return http.get(f"/call/ask/{begun.json()['event_id']}").text
