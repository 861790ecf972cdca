"""The results of `CoLM.check`."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from typing_extensions import override

from colm_vl import CoLM, Query, Team, prompts
from colm_vl.backends.base import Generation, Request
from colm_vl.backends.scripted import Reply, ScriptedBackend
from colm_vl.errors import Unsupported
from colm_vl.prompts import LabelledLines
from tests.endpoint import Answer, Endpoint, Fault, Seen
from tests.endpoint import Reply as Said
from tests.teams import scripted


def text_only(request: Request) -> str:
    """A model like llama.cpp without a projector, which does not say in advance that it refuses pictures."""
    if request.images:
        raise Unsupported("image input is not supported", status=500)
    return "Yes."


def test_members_are_checked_even_if_the_strategy_cannot_be_carried_out(tmp_path: Path) -> None:
    team = tmp_path / "team.toml"
    team.write_text('[[clients]]\nname = "near"\nbackend = "scripted"\nmodel = "m"\nreplies = ["Answer: 5"]\n')
    command = [sys.executable, "-m", "colm_vl.cli", "team", "check", str(team)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "near" in done.stdout
    assert (done.returncode, "strategy 'colm' needs a server" in done.stderr) == (2, True)


def test_a_text_only_member_works_without_pictures() -> None:
    with scripted({"reader": text_only, "deaf": [{"error": "unsupported"}]}, strategy="vote") as colm:
        reader, deaf = colm.check()
    assert (reader.works, reader.images) == (True, 0)
    assert "works without pictures" in reader.detail
    assert not deaf.works  # it refuses texts too


def sighted(request: Request) -> str:
    """Tells the colour of the middle of the picture."""
    (image,) = request.images
    red, _, blue = image.pil().getpixel((image.width // 2, image.height // 2))
    return f"Caption: a circle\nAnswer: {'red' if red > blue else 'blue'}\nConfidence: 90"


def blind(request: Request) -> str:
    return "Caption: a circle\nAnswer: red\nConfidence: 90"


def test_a_member_that_names_both_colours_is_reported_to_see() -> None:
    asked: list[Request] = []

    def looks(request: Request) -> str:
        asked.append(request)
        return sighted(request)

    with scripted({"eyes": looks, "guesses": blind}, strategy="vote") as colm:
        eyes, guesses = colm.check()
    assert (eyes.works, eyes.images, eyes.sees, eyes.formats) == (True, None, True, ("lines",))
    assert (guesses.works, guesses.sees) == (True, False)
    assert all(request.images for request in asked)
    assert len(asked) == 3  # two colours, and one of them under a schema


def test_checks_use_the_prompt_of_drafts() -> None:
    with scripted({"eyes": sighted}, strategy="vote", prompts="pocket") as colm:
        colm.check()
        profile, (client,) = colm.team.policy.prompts, colm.team.clients
        request = colm.requests("eyes")[0]
    query = Query("What colour is the circle?", request.images)
    assert request.messages == prompts.draft_messages(query, client.specialty, reply_format=LabelledLines(profile))


def test_a_reply_without_an_answer_follows_no_format() -> None:
    with scripted({"chats": ["Well, let me see.\nThere is a lot to say about it."]}, strategy="vote") as colm:
        (row,) = colm.check()
    assert (row.works, row.formats) == (True, ())


@pytest.mark.parametrize(
    ("under_schema", "refuses", "formats"),
    [
        ('{"caption": "a sum", "answer": "5", "confidence": 90}', set(), ("json", "lines")),
        ("Answer: 5", set(), ("lines",)),  # ignores the schema
        ('{"caption": "a sum, which is a sum, which', set(), ("lines",)),
        ("", {"response_format"}, ("lines",)),
    ],
)
def test_the_formats_that_an_endpoint_follows(under_schema: str, refuses: set[str], formats: tuple[str, ...]) -> None:
    def answer(asked: Seen) -> Answer:
        return Said(under_schema if "response_format" in asked.body else "Caption: a sum\nAnswer: 5\nConfidence: 90")

    with Endpoint(answer, refuses=refuses) as endpoint:
        member = {"name": "m", "backend": "openai", "model": "m", "base_url": endpoint.base_url, "max_images": 0}
        with CoLM(Team.from_dict({"clients": [member], "policy": {"strategy": "vote"}})) as colm:
            (row,) = colm.check()
    assert row.works
    assert row.formats == formats


def test_a_copied_form_follows_no_format() -> None:
    def copies(request: Request) -> str:
        return request.messages[-1].text.rpartition("\n\n")[2]

    with scripted({"copies": copies}, strategy="vote") as colm:
        (row,) = colm.check()
    assert (row.works, row.formats) == (True, ())


def test_results_are_reported_as_soon_as_they_are_known() -> None:
    told: list[str] = []
    with scripted({"slow": [{"text": "Yes.", "delay": 0.3}], "quick": ["Yes."]}, strategy="vote") as colm:
        rows = colm.check(lambda health: told.append(health.member.name))
    assert told == ["quick", "slow"]
    assert [row.member.name for row in rows] == ["slow", "quick"]


def test_a_check_ends_with_the_timeout_of_the_stage() -> None:
    slow = [{"text": "Yes.", "delay": 60}]
    with scripted({"slow": slow}, slow, timeouts={"draft": 0.2, "guide": 0.3}) as colm:
        client, server = colm.check()
    assert (client.problem, client.hint) == ("no reply within 0.2 s", "raise policy.timeouts.draft")
    assert (server.problem, server.hint) == ("no reply within 0.3 s", "raise policy.timeouts.guide")


def test_waiting_for_a_place_in_memory_does_not_count(tiny: Callable[[str], Path]) -> None:
    clients = [
        {"name": name, "backend": "transformers", "model": str(tiny("llama")), "device": "cpu"} for name in ("a", "b")
    ]
    policy = {"strategy": "vote", "max_loaded": 1, "sampling": {"draft": {"max_tokens": 4}}}
    with CoLM(Team.from_dict({"clients": clients, "policy": policy})) as colm:
        rows = colm.check()
    assert [row.problem for row in rows] == ["", ""]
    assert [row.images for row in rows] == [0, 0]
    assert all(row.memory and 0 < row.memory.weights < row.memory.free for row in rows)
    assert all(row.logprobs and row.first_token and row.speed for row in rows)


class Unhurried(ScriptedBackend):
    """Takes its time for every word."""

    @override
    async def stream(self, request: Request) -> AsyncIterator[str | Generation]:
        async for piece in super().stream(request):
            if isinstance(piece, str):
                await asyncio.sleep(0.05)
            yield piece


def test_the_time_to_the_first_token_and_the_speed_are_of_a_stream() -> None:
    like = scripted({"slow": ["unused"]}, strategy="vote")
    with CoLM(like.team, backends={"slow": Unhurried([Reply(text="Answer: one two three four")])}) as colm:
        (row,) = colm.check()
    assert row.first_token is not None
    assert row.speed is not None
    assert 0.05 <= row.first_token < row.seconds
    assert 1 < row.speed <= 20.5


def llama_cpp(asked: Seen) -> Answer:
    if asked.pictures:
        return Fault("status", status=500, message="image input is not supported - hint: provide the mmproj")
    return Said("Yes.")


def test_a_text_only_endpoint_works_without_pictures() -> None:
    with Endpoint(llama_cpp) as endpoint:
        member = {"name": "reader", "backend": "openai", "model": "m", "base_url": endpoint.base_url}
        with CoLM(Team.from_dict({"clients": [member], "policy": {"strategy": "vote"}})) as colm:
            (row,) = colm.check()
    assert (row.works, row.images) == (True, 0)
    assert row.detail.startswith("works without pictures")
