"""Training: every stage runs, and a killed run ends as one that was not killed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText

from colm_vl.pocket import learning, vocabulary
from colm_vl.pocket.builders import empty_model
from colm_vl.pocket.learning import Runner, Schedule
from colm_vl.pocket.lessons import Lessons
from colm_vl.pocket.roster import MEMBERS
from colm_vl.pocket.train import PLAN
from colm_vl.pocket.turns import Writer
from colm_vl.pocket.workshop import STAGES, Plan, Workshop


class Killed(Exception):
    """In place of a signal."""


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = vocabulary.build()
    member = MEMBERS["digits"]
    lessons = Lessons(member, Writer(member, tokenizer))
    course = replace(lessons.see(Schedule(4, batch=2, warmup=1), asks=1), checks={})
    monkeypatch.setattr(learning, "SAVE_SECONDS", -1.0)

    def fresh() -> Runner:
        torch.manual_seed(3)
        return Runner(empty_model(member, tokenizer), torch.device("cpu"), tokenizer.pad_token_id)

    whole = fresh()
    learning.train(whole, course, tmp_path / "whole.pt")

    def until_third(step: int, index: int):  # type: ignore[no-untyped-def]
        if step == 2:
            raise Killed
        return course.pack(step, index)

    with pytest.raises(Killed):
        learning.train(fresh(), replace(course, pack=until_third), tmp_path / "killed.pt")
    resumed = fresh()
    learning.train(resumed, course, tmp_path / "killed.pt")
    for name, weight in whole.model.state_dict().items():
        torch.testing.assert_close(weight, resumed.model.state_dict()[name], atol=1e-6, rtol=1e-5)


def test_all_stages_from_nothing_to_folders(tmp_path: Path) -> None:
    short = Schedule(1, batch=2, check_every=100)
    plan = Plan(
        sight=dict.fromkeys(PLAN.sight, short),
        see=dict.fromkeys(MEMBERS, short),
        draft=dict.fromkeys(MEMBERS, short),
        guide=short,
        refine=dict.fromkeys(MEMBERS, short),
        guide_questions=100,
        refine_questions=100,
    )
    workshop = Workshop(tmp_path, torch.device("cpu"), plan)
    for stage in STAGES:
        workshop.run(stage, tuple(MEMBERS))
    for name in MEMBERS:
        opened = AutoModelForImageTextToText.from_pretrained(tmp_path / "weights" / name)
        assert all(bool(weight.isfinite().all()) for weight in opened.parameters())
