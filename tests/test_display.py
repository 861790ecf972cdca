"""Terminal output."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from colm_vl.backends.base import Memory
from colm_vl.display import Conversation, health_table
from colm_vl.events import Delta, Queued, StageStarted
from colm_vl.health import Health
from tests.teams import FIVE, scripted


@pytest.mark.parametrize(("problem", "pictures"), [("", "yes"), ("no answer", "?")])
def test_nothing_is_claimed_about_a_member_that_does_not_work(problem: str, pictures: str) -> None:
    with scripted({"one": [FIVE]}, strategy="vote") as colm:
        health = Health(colm.team.clients[0], 1.0, problem=problem)
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(health_table([health]))
    (row,) = (line for line in console.export_text().splitlines() if " one " in line)
    assert [cell.strip() for cell in row.strip("│").split("│")][4] == pictures


NAMES = (
    "photos-of-everyday-scenes-and-people-in-them-taken-by-anyone-at-all-with-a-phone-or-camera",
    "图表与文档" * 10,
)
PROBLEM = (
    "model 'org/Some-Very-Long-Vision-Language-Model-Name-7B-Instruct-AWQ' at "
    "https://a-rather-long-host-name.internal.example.org:8443/deployments/production/gateway/openai/v1 "
    "cannot be reached: connection refused"
)
HINT = "see whether a server listens there; on another machine it has to listen on more than 127.0.0.1"


@pytest.mark.parametrize("width", [80, 40])
def test_a_narrow_terminal_shows_every_word_or_says_that_it_is_shortened(width: int) -> None:
    with scripted({name: [FIVE] for name in NAMES}, strategy="vote") as colm:
        works, fails = colm.team.clients
    rows = [Health(works, 1.0, 0, False, "works without pictures"), Health(fails, 12.3, problem=PROBLEM, hint=HINT)]
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(health_table(rows))
    shown = console.export_text()
    assert all(cell_len(line) <= width for line in shown.splitlines())
    for word in f"{NAMES[0]} {NAMES[1]} script (scripted) works without pictures {PROBLEM} ({HINT})".split():
        if cell_len(word) <= width - 2:
            assert word in shown.split()
        else:
            assert any("…" in part and part[0] == word[0] and part[-1] == word[-1] for part in shown.split())


def test_a_wide_terminal_shows_a_table() -> None:
    with scripted({"one": [FIVE], "two": [FIVE]}, strategy="vote") as colm:
        rows = [Health(member, 1.0, detail="scripted") for member in colm.team.clients]
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(health_table(rows))
    assert "logprobs ┃ what" in console.export_text()


def test_eighty_columns_show_a_table_of_what_was_found() -> None:
    with scripted({"photos": [FIVE], "reader": [FIVE], "gone": [FIVE]}, strategy="vote") as colm:
        photos, reader, gone = colm.team.clients
    memory = Memory(weights=3_100_000_000, free=2_000_000_000)
    rows = [
        Health(photos, 1.0, None, True, "qwen2_5_vl, cpu", "", "", True, ("json", "lines"), 0.4, 31.4, memory),
        Health(reader, 1.0, 0, False, "works without pictures", formats=(), first_token=1.2, speed=None),
        Health(gone, 0.1, problem="connection refused", hint="start it"),
    ]
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(health_table(rows))
    shown = console.export_text()
    assert all(cell_len(line) <= 80 for line in shown.splitlines())
    cells = [line.split("  ") for line in shown.splitlines()[1:4]]
    assert [[cell.strip() for cell in row if cell.strip()] for row in cells] == [
        ["photos", "yes", "yes", "json", "0.40 s", "31", "3.1 GB", "yes"],
        ["reader", "text only", "–", "neither", "1.20 s", "–", "–", "no"],
        ["gone", "no", "–", "–", "–", "–", "–", "?"],
    ]
    assert "gone: script (scripted); connection refused (start it)" in shown
    assert "2.0 GB are free. Set quantization" in " ".join(shown.split())


def test_an_unreadable_refinement_shows_the_answer_that_is_kept() -> None:
    console = Console(width=100, file=io.StringIO(), record=True)
    replies = {"near": ["Answer: (A)", "I cannot tell."], "far": ["I cannot tell.", "Answer: (B)"]}
    with scripted(replies, ["Evidence: red"]) as colm, Conversation(console) as conversation:
        for event in colm.stream("Which?", choices=["red", "blue"]):
            conversation.show(event)
    shown = [" ".join(line.split()) for line in console.export_text().partition("Refined answers")[2].splitlines()]
    assert "near no readable answer, (A) red is kept" in shown
    assert "far unreadable → (B) blue changed" in shown


def test_a_call_that_waits_in_the_queue_of_a_service_is_shown_until_it_is_answered() -> None:
    console = Console(width=100, file=io.StringIO(), force_terminal=True)
    with Conversation(console) as conversation:
        conversation.show(StageStarted("guide", ("server",), 1))
        conversation.show(Queued("guide", "server", 3, 1))
        shown = console.file.getvalue()  # type: ignore[attr-defined]
        conversation.show(Queued("guide", "server", None, 1))
        conversation.show(Delta("guide", "server", "Evidence: five", 1))
        later = console.file.getvalue().removeprefix(shown)  # type: ignore[attr-defined]
    assert "in the queue of the service, 3 calls ahead" in shown
    assert "in the queue" not in later
    assert "Evidence: five" in later


def test_samples_that_are_written_at_once_are_not_mixed() -> None:
    console = Console(width=100, file=io.StringIO(), force_terminal=True)
    with Conversation(console) as conversation:
        conversation.show(StageStarted("draft", ("near",)))
        for sample in (1, 2):
            conversation.show(Delta("draft", "near", "Answer: ", sample=sample))
        shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "several answers at once" in shown
    assert "Answer" not in shown
