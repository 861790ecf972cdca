"""The world: reproducible, with disjoint sets, and with correct captions and answers."""

from __future__ import annotations

import hashlib
import re
from random import Random

import pytest

from colm_vl.pocket import world
from colm_vl.pocket.scenes import CELLS, DOMAINS


def fingerprint(samples: list[world.Sample]) -> str:
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(repr((sample.id, sample.question, sample.choices, sample.answer, sample.caption)).encode())
        for picture in sample.pictures:
            digest.update(picture.tobytes())
    return digest.hexdigest()


def test_the_same_seed_draws_the_same_questions() -> None:
    once, again = (fingerprint(list(world.generate(5, 60))) for _ in range(2))
    assert once == again
    assert once != fingerprint(list(world.generate(6, 60)))


def test_a_sample_does_not_depend_on_those_before_it() -> None:
    assert fingerprint(list(world.generate(5, 60))[:30]) == fingerprint(list(world.generate(5, 30)))


def test_one_domain_alone() -> None:
    assert {sample.domain for sample in world.generate(1, 20, "charts")} == {"charts"}
    with pytest.raises(ValueError, match="'maps' is unknown: expected one of shapes"):
        list(world.generate(1, 1, "maps"))


def test_the_test_set_has_1200_questions_and_all_domains_equally() -> None:
    domains = [sample.domain for sample in world.split("test")]
    assert len(domains) == world.TEST_SIZE
    assert {domain: domains.count(domain) for domain in DOMAINS} == dict.fromkeys(
        DOMAINS, world.TEST_SIZE // len(DOMAINS)
    )


def test_splits_share_no_picture() -> None:
    seen: dict[bytes, str] = {}
    for name in ("train", "validation", "test"):
        for sample in world.split(name, 300):
            for picture in sample.pictures:
                assert seen.setdefault(picture.tobytes(), name) == name
    assert not {picture.tobytes() for sample in world.generate(0, 300) for picture in sample.pictures} & set(seen)


def test_choices_are_lettered_and_hold_the_answer() -> None:
    chosen = [sample for sample in world.generate(2, 300) if sample.choices]
    assert 30 < len(chosen) < 150
    for sample in chosen:
        assert len(set(sample.choices)) == len(sample.choices) == 3
        assert sample.choices[world.LETTERS.index(sample.answer)] == sample.answer_text


def expected_of_chart(kind: str, question: str, bars: dict[str, int]) -> str:
    named = [bars[colour] for colour in re.findall(r"the (\w+) bar", question)]
    if kind in ("tallest", "shortest"):
        wanted = (max if kind == "tallest" else min)(bars.values())
        return next(colour for colour, value in bars.items() if value == wanted)
    if kind == "comparison":
        return "yes" if named[0] > named[1] else "no"
    return str(named[0] if kind == "value" else abs(named[0] - named[1]))


def test_chart_answers_follow_from_the_caption() -> None:
    for index in range(40):
        scene = world.scene(f"check/{index}", "charts")
        bars = {colour: int(value) for colour, value in re.findall(r"(\w+) (\d)", scene.caption)}
        for ask in scene.questions:
            assert ask.answer == expected_of_chart(ask.kind, ask.question, bars), ask


def test_counts_follow_from_the_caption() -> None:
    for index in range(40):
        scene = world.scene(f"check/{index}", "counting")
        stats = [
            (colour, shape, int(number))
            for colour, shape, number in (kind.split() for kind in scene.caption.split(", "))
        ]
        for ask in scene.questions:
            if ask.kind == "comparison":
                one, two = re.findall(r"(\w+) objects", ask.question)
                more = sum(n for c, _, n in stats if c == one) > sum(n for c, _, n in stats if c == two)
                assert ask.answer == ("yes" if more else "no")
            else:
                wanted = set(re.findall(r"\w+", ask.question))
                counted = sum(n for c, s, n in stats if ask.kind == "total" or {c, s} & wanted)
                assert ask.answer == str(counted), ask


def test_objects_are_where_the_caption_says() -> None:
    """The cell named in a caption holds something coloured in the picture, an unnamed one holds paper."""
    for index in range(30):
        scene = world.scene(f"check/{index}", "shapes")
        named = {" ".join(part.split()[:-2]) for part in scene.caption.split(", ")}
        picture = scene.pictures[0]
        for number, cell in enumerate(CELLS):
            row, column = divmod(number, 3)
            middle = picture.crop((column * 28 + 10, row * 28 + 10, column * 28 + 18, row * 28 + 18))
            red, green, blue = (sum(band.tobytes()) / 64 for band in middle.split())
            spread = max(red, green, blue) - min(red, green, blue)
            assert (spread > 45) == (cell in named), (scene.caption, cell, spread)


def test_questions_of_a_scene_are_different() -> None:
    for domain in DOMAINS:
        scene = world.scene("check/1", domain)
        asked = world.samples_of("check/1", scene, Random(0), 4)
        assert len({(sample.question, sample.answer_text) for sample in asked}) == len(asked) == 4
