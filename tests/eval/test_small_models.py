"""How replies are counted that are read, that repeat the prompt, and that are empty."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from colm_vl import Query, Team, prompts
from colm_vl.errors import InputError
from eval.small_models import Measured, Shares, measure, read_questions
from tests.teams import FIVE, GUIDANCE

QUERY = Query("How many dots are there?", id="dots", metadata={"gold": ["5", "five"]})
FORM = prompts.draft_messages(QUERY)[-1].text.partition("\n\n")[2]
GUIDE_FORM = prompts.guidance_messages(QUERY, {"one": FIVE})[-1].text.rpartition("]\n\n")[2]


async def measured(client: str, server: str = GUIDANCE) -> Measured:
    member = {"backend": "scripted", "model": "script"}
    team = Team.from_dict(
        {"clients": [{"name": "one", **member, "replies": [client]}], "server": {**member, "replies": [server]}}
    )
    return await measure(team, [QUERY])


async def test_what_a_model_writes_itself_is_readable() -> None:
    found = await measured(FIVE)
    assert found.drafts == found.guidance == found.refinements == Shares(1, 1, 0, 0)
    assert (found.right_drafts, found.right_answers) == (1, 1)


async def test_a_copied_form_is_no_answer_and_no_guidance() -> None:
    found = await measured(FORM, GUIDE_FORM)
    assert (found.drafts.readable, found.drafts.copied) == (0, 1)
    assert (found.guidance.readable, found.guidance.copied) == (0, 1)
    assert found.right_answers == 0


async def test_a_copied_example_is_no_answer_and_no_guidance() -> None:
    texts = prompts.LABELLED_LINES.profile.texts
    found = await measured(texts.example_reply, texts.guide_example_reply)
    assert (found.drafts.readable, found.drafts.copied) == (0, 1)
    assert (found.guidance.readable, found.guidance.copied) == (0, 1)


async def test_an_answer_beside_copied_lines_is_readable() -> None:
    found = await measured(f"{FORM}\nAnswer: 5", f"{GUIDE_FORM}\nCheck: count again")
    assert (found.drafts.readable, found.guidance.readable) == (1, 1)


async def test_a_quoted_question_or_draft_is_no_copy_of_the_form() -> None:
    draft = "Caption: the picture shows five small red dots in a row\nAnswer: 5"
    found = await measured(draft, f"Evidence: {QUERY.question} The picture shows five small red dots in a row.")
    assert (found.drafts.readable, found.guidance.readable) == (1, 1)


async def test_a_reply_without_an_answer_is_empty() -> None:
    assert (await measured("Caption: dots")).drafts.empty == 1
    assert (await measured("  ")).drafts.empty == 1


async def test_fields_of_json_are_read_one_by_one() -> None:
    found = await measured(FIVE, json.dumps({"evidence": GUIDE_FORM, "check": "count the dots in the corner"}))
    assert found.guidance.readable == 1


async def test_the_row_shows_shares() -> None:
    row = (await measured(FORM)).row("tiny", "default", "lines")
    assert row.startswith("| tiny | default | lines | 0% | 100% (")


def test_questions_without_gold_answers_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text('{"question": "How many?"}\n', encoding="utf-8")
    with pytest.raises(InputError, match="question 1 has no gold answers"):
        read_questions(str(file))


def test_questions_come_from_the_pocket_world_too() -> None:
    first, *_ = read_questions("pocket", 3)
    assert first.images
    assert first.metadata["gold"]
    assert replace(first) == first
