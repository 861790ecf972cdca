"""Artificial drafts and guidance, right and wrong, from which a member learns to read replies of other models.

Models this small learn late to find relevant statements in a context, and collaboration depends on it. It takes more
examples than a corpus of real drafts contains, and artificial ones cost nothing. From real drafts and guidance, members
then learn which replies to trust and what real mistakes look like.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from random import Random

from colm_vl.pocket import world
from colm_vl.pocket.outside import NOT_KNOWN, OUTSIDE, UNKNOWN
from colm_vl.pocket.roster import CLIENTS
from colm_vl.pocket.scenes import DOMAINS
from colm_vl.pocket.training import material, turns
from colm_vl.pocket.training.turns import Guided
from colm_vl.pocket.world import CHOICE_SHARE, Sample

RIGHT_AT_HOME, RIGHT_ELSEWHERE, RIGHT_GUIDANCE = 0.9, 0.35, 0.85
WRONG_DOUBT = 0.1
SCENES = 150
"""The number of scenes of each domain from which wrong captions and answers are taken."""


def guided(key: str, rng: Random, n: int, favour: Mapping[str, float] | None = None) -> tuple[Guided, ...]:
    """Up to `n` questions about a scene of a random domain, with drafts and guidance that are right about as often as
    real ones. For `favour`, see `world.samples_of`."""
    domain = material.domain(rng, dict.fromkeys(DOMAINS, 1.0))
    samples = world.samples_of(key, material.scene(key, domain), rng, n, CHOICE_SHARE, favour)
    return tuple(_about(sample, rng) for sample in samples)


def _about(sample: Sample, rng: Random) -> Guided:
    drafts: dict[str, str] = {}
    answers: list[str] = []
    for client in CLIENTS:
        right = rng.random() < (RIGHT_AT_HOME if sample.domain in client.home else RIGHT_ELSEWHERE)
        caption, answer = (sample.caption, sample.answer_text) if right else _wrong(sample, rng)
        drafts[client.name] = turns.reply(caption, answer, turns.confidence(client, sample))
        answers.append(answer)
    right = rng.random() < RIGHT_GUIDANCE
    caption, answer = (sample.caption, sample.answer_text) if right else _wrong(sample, rng)
    return Guided(sample, drafts, turns.guidance(caption, answer, answers))


def _wrong(sample: Sample, rng: Random) -> tuple[str, str]:
    """The right caption and answer for a question of the same kind about another scene, or about any if nothing is
    known. Sometimes, the model wrongly does not know, except with choices, of which it then names none."""
    if sample.domain != OUTSIDE and not sample.choices and rng.random() < WRONG_DOUBT:
        return NOT_KNOWN, UNKNOWN
    others = _others()
    kind = rng.choice(sorted(others)) if sample.domain == OUTSIDE else (sample.domain, sample.kind)
    caption, answer = rng.choice(others[kind])
    if sample.choices:
        answer = rng.choice(sample.choices)
    return caption, answer


@cache
def _others() -> Mapping[tuple[str, str], Sequence[tuple[str, str]]]:
    found: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for domain in (*DOMAINS, material.EASY):
        for index in range(SCENES):
            key = f"train/others/{index}"
            for sample in world.samples_of(key, material.scene(key, domain), Random(key), 8):
                found[domain, sample.kind].append((sample.caption, sample.answer_text))
    return found
