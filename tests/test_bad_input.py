"""Bad input gives a one-line message with the thing, its value and a hint, and the right exit status."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from colm_vl import cli
from tests.endpoint import Endpoint, Fault, FaultKind

KEY = "sk-a-very-secret-key"
CLIENT = '[[clients]]\nname = "{name}"\nbackend = "scripted"\nmodel = "script"\nreplies = ["Answer: 5"]\n{more}\n'
GOOD = CLIENT.format(name="good", more="")
REMOTE = (
    '[[clients]]\nname = "{name}"\nbackend = "openai"\nmodel = "m"\nbase_url = "{url}"\n'
    'api_key_env = "BOX_KEY"\nmax_retries = 0\n'
)
VOTE = '[policy]\nstrategy = "vote"\ntimeouts.draft = 5\n'
NOWHERE = "http://127.0.0.1:9/v1"


class Done(NamedTuple):
    code: object
    out: str
    err: str

    def trace(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Done]


@pytest.fixture
def colm_vl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Run the console script in this process and in an empty folder. `team` is the content of a team file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BOX_KEY", KEY)

    def run(*arguments: str, team: str | bytes = GOOD + VOTE) -> Done:
        Path("team.toml").write_bytes(team if isinstance(team, bytes) else team.encode())
        monkeypatch.setattr(sys, "argv", ["colm-vl", *arguments, *(() if "check" in arguments else TEAM)])
        code: object = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code or 0
        done = Done(code, *capsys.readouterr())
        assert KEY not in done.out + done.err
        assert "Traceback" not in done.err
        return done

    return run


TEAM = ("--team", "team.toml")
ASK = ("ask", "-q", "How many?")


def assert_refused(done: Done, code: int, *said: str) -> None:
    """Assert that there is one line with these texts and a hint, and no further output on standard output."""
    assert done.code == code, done.err
    line = done.err.removesuffix("\n")
    assert line.startswith("error: ")
    assert line.isprintable()
    assert line.endswith(")"), "no hint"
    for part in said:
        assert part in line
    if code == 2 and "no answer" not in line:
        assert not done.out


# --- pictures ---


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(bytes(min(height, 1_000) * (width + 1)))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def data_uri(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "does not exist"),
        (b"", "is empty (zero bytes)"),
        (b"just text", "is text; expected a JPEG"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "is an SVG drawing"),
        (png(400, 300)[:60], "truncated or damaged"),
        (b"\x89PNG\r\n\x1a\n" + 40 * b"\xff", "damaged"),
        (png(20_000, 20_000), "20,000 x 20,000 = 400,000,000 pixels; at most"),
        (bytes(range(256)), "is in no known format"),
    ],
    ids=["missing", "empty", "text", "svg", "truncated", "damaged", "huge", "unknown"],
)
def test_a_file_that_is_no_picture(colm_vl: Command, content: bytes | None, said: str) -> None:
    if content is not None:
        Path("map.png").write_bytes(content)
    assert_refused(colm_vl(*ASK, "--image", "map.png"), 2, "'map.png'", said)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("", "path is empty"),
        (".", "is a folder"),
        ("data:image/png;base64,%%%", "wrong base64"),
        (data_uri(png(400, 300)[:60]), "truncated or damaged"),
        ("data:image/png,abc", "not in base64"),
        ("https://user:hunter2@img.example.org/a.png?signature=hunter2", "fetching is off"),
        ("map\x1b[31m.png", "'map\\x1b[31m.png' does not exist"),
        ("[bold]map[/nope].png", "'[bold]map[/nope].png' does not exist"),
    ],
)
def test_a_source_that_gives_no_picture(colm_vl: Command, source: str, said: str) -> None:
    done = colm_vl(*ASK, "--image", source)
    assert_refused(done, 2, said)
    assert "hunter2" not in done.err


def test_more_pictures_than_a_model_takes(colm_vl: Command) -> None:
    Path("a.png").write_bytes(png(4, 4))
    pictures = 40 * ("--image", "a.png")
    four = CLIENT.format(name="four", more="max_images = 4")
    assert_refused(colm_vl(*ASK, *pictures, team=four + VOTE), 1, "takes at most 4 pictures, got 40", "fewer pictures")
    blind = CLIENT.format(name="blind", more="max_images = 0")
    assert_refused(colm_vl(*ASK, *pictures, team=blind + VOTE), 1, "takes text only", "vision model")
    done = colm_vl(*ASK, *pictures, "--json", team=four + blind + GOOD + VOTE)
    assert (done.code, done.trace()["answer"], done.trace()["degraded"], done.err) == (0, "5", True, "")
    assert [(failure["member"], failure["kind"]) for failure in done.trace()["failures"]] == [
        ("four", "unsupported"),
        ("blind", "unsupported"),
    ]


# --- questions ---


def test_a_question_longer_than_the_context(colm_vl: Command) -> None:
    short, question = CLIENT.format(name="short", more="context = 100"), 200 * "word "
    assert_refused(
        colm_vl("ask", "-q", question, team=short + VOTE), 1, "takes 100 tokens, got", "shorten the question"
    )
    trace = colm_vl("ask", "-q", question, "--json", team=short + GOOD + VOTE).trace()
    assert (trace["answer"], [failure["kind"] for failure in trace["failures"]]) == ("5", ["context_too_long"])


@pytest.mark.parametrize(("question", "said"), [(" \t", "the question is empty"), ("caf\udce9?", "is not UTF-8 text")])
def test_a_question_that_cannot_be_asked(colm_vl: Command, question: str, said: str) -> None:
    assert_refused(colm_vl("ask", "-q", question), 2, said)
    assert_refused(colm_vl(*ASK, "-c", "yes", "-c", question), 2)


def test_a_question_on_standard_input(colm_vl: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def standard_input(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))

    standard_input(b"")
    assert_refused(colm_vl("ask", "-q", "-"), 2, "the question is empty")
    standard_input("Wie groß?".encode("latin-1"))
    assert_refused(colm_vl("ask", "-q", "-"), 2, "not UTF-8 text, from byte 8 on", "iconv")
    standard_input(b"\xef\xbb\xbf" + "Wie groß?\n".encode())
    assert colm_vl("ask", "-q", "-", "--json").trace()["question"] == "Wie groß?\n"
    monkeypatch.setattr(sys, "stdin", None)
    assert_refused(colm_vl("ask", "-q", "-"), 2, "standard input is closed")


# --- team files ---


@pytest.mark.parametrize(
    ("team", "said"),
    [
        (GOOD + 'colour = "red"\n', "unknown key 'colour'"),
        ("", "no clients"),
        (GOOD + GOOD, "two members are called 'good'"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (REMOTE.format(name="a", url=NOWHERE).replace("BOX_KEY", "NO_SUCH") + VOTE, "'NO_SUCH', named by api_key_env"),
        (REMOTE.format(name="a", url=NOWHERE).replace("BOX_KEY", "EMPTY") + VOTE, "'EMPTY', named by api_key_env"),
    ],
    ids=["key", "none", "twice", "bytes", "variable", "empty-variable"],
)
def test_a_wrong_team_file(colm_vl: Command, monkeypatch: pytest.MonkeyPatch, team: str | bytes, said: str) -> None:
    monkeypatch.setenv("EMPTY", " ")
    assert_refused(colm_vl(*ASK, team=team), 2, said)


def test_a_missing_variable_takes_one_client_away(colm_vl: Command) -> None:
    team = REMOTE.format(name="a", url=NOWHERE).replace("BOX_KEY", "NO_SUCH") + GOOD + VOTE
    trace = colm_vl(*ASK, "--json", team=team).trace()
    assert (trace["answer"], [failure["kind"] for failure in trace["failures"]]) == ("5", ["config"])


def test_files_that_are_not_team_files(colm_vl: Command) -> None:
    assert_refused(colm_vl("team", "check", "."), 2, "is a folder, expected a team file")
    assert_refused(colm_vl("team", "check", "none.toml"), 2, "none.toml: no such team file")


# --- endpoints ---


@pytest.mark.parametrize(
    ("kind", "failed", "said"),
    [
        ("html", "bad_reply", "a page of HTML"),
        ("error_body", "bad_reply", "is an error"),
        ("half_way", "bad_reply", "before its reply was complete"),
        ("stall", "timed_out", "no reply within"),
        ("reset", "unreachable", "cannot be reached"),
        ("too_long", "context_too_long", "maximum context length is 1024"),
    ],
)
def test_an_endpoint_that_fails(colm_vl: Command, kind: FaultKind, failed: str, said: str) -> None:
    fault = Fault(kind, message=f"\x1b[31m[bold]{KEY}[/nope]")
    with Endpoint(fault) as endpoint:
        bad = REMOTE.format(name="bad", url=endpoint.base_url)
        policy = VOTE.replace("= 5", "= 0.5" if kind == "stall" else "= 30")
        alone = colm_vl(*ASK, team=bad + policy)
        beside = colm_vl(*ASK, "--json", team=bad + GOOD + policy)
        check = colm_vl("team", "check", "team.toml", team=bad + GOOD + policy)
    assert alone.code == 1
    assert said in alone.err
    assert alone.err.count("\n") == 1
    assert "\x1b" not in alone.err + alone.out
    assert (beside.code, beside.err, beside.trace()["answer"]) == (0, "", "5")
    assert [(failure["member"], failure["kind"]) for failure in beside.trace()["failures"]] == [("bad", failed)]
    assert check.code == 1
    assert "\x1b" not in check.out


def test_an_endpoint_that_is_not_there(colm_vl: Command) -> None:
    team = REMOTE.format(name="bad", url=NOWHERE)
    assert_refused(colm_vl(*ASK, team=team + VOTE), 1, f"'m' at {NOWHERE} cannot be reached: connection refused")
    assert colm_vl(*ASK, "--json", team=team + GOOD + VOTE).trace()["failures"][0]["kind"] == "unreachable"


def test_a_check_survives_unexpected_errors(colm_vl: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise KeyError("secret-value")

    monkeypatch.setattr("colm_vl.backends.scripted.ScriptedBackend.capabilities", broken)
    team = GOOD + REMOTE.format(name="bad", url=NOWHERE) + VOTE
    done = colm_vl("team", "check", "team.toml", team=team)
    shown = "".join(char for char in done.out if char.isalnum())  # it stands in narrow columns
    assert done.code == 1
    assert "KeyError" in shown
    assert "connectionrefused" in shown
    assert "secretvalue" not in shown


# --- the terminal ---

HOSTILE = "Caption: \\u001b]0;title\\u0007\\u009b31m\\u202e[red]x[/nope]\\nAnswer: [bold]5\\u001b[2J"


def test_replies_do_nothing_to_the_terminal(colm_vl: Command) -> None:
    team = GOOD.replace("Answer: 5", HOSTILE) + VOTE
    shown, printed = colm_vl(*ASK, team=team), colm_vl(*ASK, "--json", team=team)
    for out in (shown.out, printed.out):
        assert all(char == "\n" or char.isprintable() for char in out)
    assert "[red]x[/nope]" in shown.out
    assert printed.trace()["drafts"][0]["text"] == json.loads(f'"{HOSTILE}"')


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "colm_vl.cli", *map(str, arguments)]


@pytest.fixture
def team_file(tmp_path: Path) -> Path:
    file = tmp_path / "team.toml"
    file.write_text(GOOD.replace("5", "naïve ☃") + VOTE)
    return file


def test_an_interrupt_ends_it_at_once(team_file: Path) -> None:
    with Endpoint(Fault("stall")) as endpoint:
        slow = REMOTE.format(name="slow", url=endpoint.base_url).replace('api_key_env = "BOX_KEY"\n', "")
        team_file.write_text(slow + VOTE.replace("= 5", "= 60"), encoding="utf-8")
        asking = subprocess.Popen(command(*ASK, "--team", team_file), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        endpoint.wait_for(1, timeout=60)
        begun = time.monotonic()
        asking.send_signal(signal.SIGINT)
        _, told = asking.communicate(timeout=30)
    assert asking.returncode == 130
    assert b"Traceback" not in told
    assert time.monotonic() - begun < 15  # of the 60 s that it would have waited


def test_a_closed_pipe_is_not_an_error(team_file: Path) -> None:
    asking = subprocess.Popen(command(*ASK, "--team", team_file), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert asking.stdout is not None
    asking.stdout.close()  # as `| head` does
    assert asking.stderr is not None
    assert asking.stderr.read() == b""
    assert asking.wait(30) == 1
    asking.stderr.close()


@pytest.mark.parametrize("extra", [[], ["--json"]])
def test_output_with_a_limited_encoding_or_a_full_disk(team_file: Path, extra: list[str]) -> None:
    arguments, environment = command(*ASK, "--team", team_file, *extra), os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(arguments, env=environment, capture_output=True, timeout=60, check=True)
    assert done.stderr == b""
    if extra:
        assert json.loads(done.stdout)["answer"] == "naïve ☃"
    if Path("/dev/full").exists():
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(arguments, stdout=full, stderr=subprocess.PIPE, timeout=60, check=False)
        assert done.returncode == 1
        assert done.stderr.decode().startswith("error: the output cannot be written: No space left")
        assert done.stderr.count(b"\n") == 1
