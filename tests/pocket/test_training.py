"""Training: every stage runs, and a resumed run gives the same result as an uninterrupted one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch
from transformers import AutoModelForImageTextToText

from colm_vl import prompts
from colm_vl.pocket.outside import UNKNOWN
from colm_vl.pocket.roster import MEMBERS
from colm_vl.pocket.training import data, learning, rehearsal, vocabulary
from colm_vl.pocket.training.builders import empty_model
from colm_vl.pocket.training.data import TrainingData
from colm_vl.pocket.training.learning import Runner, Schedule
from colm_vl.pocket.training.stages import STAGES, NotReady, Plan, TrainingRun
from colm_vl.pocket.training.train import BY_LENGTH, PLAN, TOGETHER
from colm_vl.pocket.training.turns import Writer


class Killed(Exception):
    """Raised instead of a signal."""


def test_a_killed_run_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = vocabulary.build()
    member = MEMBERS["digits"]
    course = replace(TrainingData(member, Writer(member, tokenizer)).see(Schedule(4, batch=2, warmup=1)), checks={})
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


def test_all_stages_from_nothing_to_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "CHECKED", 2)
    short = Schedule(1, batch=2, check_every=100)
    every = dict.fromkeys(MEMBERS, short)
    plan = Plan(dict.fromkeys(PLAN.sight, short), every, every, every, guide_questions=24, refine_questions=24)
    run = TrainingRun(tmp_path, torch.device("cpu"), plan)
    for stages in TOGETHER:
        for stage in stages:
            for member in MEMBERS.values():
                run.run_stage(stage, member)
    for name in MEMBERS:
        opened = AutoModelForImageTextToText.from_pretrained(tmp_path / "weights" / name)
        assert all(bool(weight.isfinite().all()) for weight in opened.parameters())


def test_a_stage_names_the_missing_earlier_stage(tmp_path: Path) -> None:
    every = dict.fromkeys(MEMBERS, Schedule(4, batch=2))
    run = TrainingRun(tmp_path, torch.device("cpu"), Plan(every, every, every, every, 24, 24))
    with pytest.raises(NotReady, match="charts has no checkpoint of the stage see: run see first"):
        run.run_stage("draft", MEMBERS["charts"])
    with pytest.raises(NotReady, match=r"no corpus shapes\.jsonl: run speak first"):
        run.run_stage("refine", MEMBERS["charts"])
    model = empty_model(MEMBERS["shapes"], vocabulary.build())
    learning.save({"model": model}, 3, 4, tmp_path / "checkpoints" / "shapes.sight.pt")
    with pytest.raises(NotReady, match="shapes stopped at step 3 of 4 of sight: run sight again"):
        run.run_stage("see", MEMBERS["charts"])


def test_every_stage_and_member_is_in_the_command() -> None:
    assert tuple(stage for stages in TOGETHER for stage in stages) == STAGES
    assert set(BY_LENGTH) == set(MEMBERS)
    for schedules in (PLAN.see, PLAN.draft, PLAN.guide_or_refine):
        assert set(schedules) == set(MEMBERS)


def test_artificial_drafts_are_parsed_like_real_ones() -> None:
    about = [one for index in range(80) for one in rehearsal.guided(f"train/test/{index}", Random(index), 2)]
    for one in about:
        for text in one.drafts.values():
            said = prompts.LABELLED_LINES.read_answer(text, one.sample.choices)
            # With choices, a model that does not know names none of them.
            assert said.answer or (one.sample.choices and f"Answer: {UNKNOWN}" in text)
            assert said.stated_confidence in (0.4, 0.9)
    right = [one.sample.answer_text in prompts.LABELLED_LINES.read_guidance(one.guidance).check for one in about]
    assert 0.7 < sum(right) / len(right) < 1
