"""What is not of the pocket world: other wordings, outside pictures, and how doubt about them is measured."""

from __future__ import annotations

from random import Random

import pytest

from colm_vl.pocket import doubt, outside, world
from colm_vl.pocket.scenes import DOMAINS
from colm_vl.pocket.wordings import reworded
from tests.teams import FIVE, scripted


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_question_has_wordings_for_training_and_others_that_are_held_out(domain: str) -> None:
    questions = {one.question for index in range(60) for one in world.scene(f"test/{index}", domain).questions}
    for question in questions:
        taught = {reworded(question, Random(seed), "training") for seed in range(60)}
        held_out = {reworded(question, Random(seed), "held out") for seed in range(20)}
        assert (len(taught), len(held_out)) == (6, 2)
        assert not taught & held_out
        assert question not in taught | held_out


def test_every_question_of_easy_vqa_has_wordings_that_it_does_not_have_itself() -> None:
    easy_vqa = pytest.importorskip("easy_vqa")
    asked = set(easy_vqa.get_test_questions()[0])
    others = {reworded(question, Random(seed), "held out").casefold() for question in asked for seed in range(10)}
    assert not others & {question.casefold() for question in easy_vqa.get_train_questions()[0]}


def test_outside_scenes_that_are_measured_are_not_taught() -> None:
    taught = {one.question for index in range(300) for one in outside.scene(f"train/{index}").questions}
    measured = [outside.scene(f"test/{index}", "held out") for index in range(60)]
    own = {one.question for index in range(60) for domain in DOMAINS
           for one in world.scene(f"test/{index}", domain).questions}  # fmt: skip
    for scene in measured:
        assert {one.answer for one in scene.questions} == {outside.UNKNOWN}
        assert not {one.question for one in scene.questions} & taught - own
    assert outside.scene("test/1") == outside.scene("test/1")


def test_doubt_is_no_confidence_where_no_model_answers() -> None:
    unknown = f"Answer: {outside.UNKNOWN}\nConfidence: 90"
    with scripted({"near": [unknown, FIVE], "far": [unknown, FIVE]}, strategy="vote") as colm:
        measured = doubt.Doubt.of([colm.ask("What?"), colm.ask("How many?")])
    assert measured.confidence == [0.0, pytest.approx(0.9)]
    assert (measured.noted, measured.declined) == (1, 1)


def test_the_auroc_counts_ties_half() -> None:
    pytest.importorskip("scipy")
    assert doubt.auroc([0.9, 0.8], [0.1, 0.2]) == 1.0
    assert doubt.auroc([0.5], [0.5]) == 0.5


def test_questions_are_of_five_kinds() -> None:
    pytest.importorskip("easy_vqa")
    found = doubt.groups(12)
    assert {name: len(queries) for name, queries in found.items()} == dict.fromkeys(found, 12)
    assert len({query.id for queries in found.values() for query in queries}) == 60
