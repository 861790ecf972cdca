"""Training material beside the world."""

from __future__ import annotations

from random import Random

import pytest

pytest.importorskip("easy_vqa")

from colm_vl.pocket import outside, world
from colm_vl.pocket.scenes import YES_NO
from colm_vl.pocket.training import material


def test_held_out_pictures_of_easy_vqa_are_not_trained_on() -> None:
    trained = {_pixels(f"train/{index}") for index in range(150)}
    held_out = {_pixels(f"validation/{index}") for index in range(150)}
    assert len(trained) > 100
    assert not trained & held_out


def test_captions_of_easy_vqa_do_not_contradict_the_answers() -> None:
    for index in range(300):
        scene = material.scene(f"train/{index}", material.EASY)
        for one in scene.questions:
            words = set(one.question.rstrip("?").casefold().split())
            if one.answer not in YES_NO:
                assert one.answer in scene.caption
            elif not words & {"no", "not"} and one.answer == "yes":
                assert words & set(scene.caption.split())


def test_the_world_stays_the_greatest_part() -> None:
    rng = Random(1)
    drawn = [material.domain(rng, {"shapes": 1.0}) for _ in range(4000)]
    for name, share in material.SHARES.items():
        assert drawn.count(name) / len(drawn) == pytest.approx(share, abs=0.02)
    assert drawn.count("shapes") > 0.7 * len(drawn)
    assert set(drawn) == {"shapes", material.EASY, outside.OUTSIDE}


def test_what_is_not_known_is_also_asked_with_choices_of_which_none_is_right() -> None:
    asked = [
        sample
        for index in range(100)
        for sample in world.samples_of(f"{index}", outside.scene(f"train/{index}"), Random(index), 5)
    ]
    assert {sample.answer for sample in asked} == {outside.UNKNOWN}
    with_choices = [sample for sample in asked if sample.choices]
    assert 0.1 < len(with_choices) / len(asked) < 0.4
    assert all(len(set(sample.choices)) == 3 and outside.UNKNOWN not in sample.choices for sample in with_choices)


def _pixels(key: str) -> bytes:
    (picture,) = material.scene(key, material.EASY).pictures
    return picture.tobytes()
