"""Made-up drafts and guidance, right and wrong, from which a member learns to read others before it meets real ones.

To find in a context what somebody said about the question at hand is what models this small learn last, and what
collaborating consists of. It takes more examples than a corpus of real drafts has; made-up ones cost nothing. Whom to
believe, and what real mistakes look like, they learn afterwards from real drafts and real guidance.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from random import Random

from colm_vl.pocket import world
from colm_vl.pocket.roster import CLIENTS
from colm_vl.pocket.scenes import DOMAINS
from colm_vl.pocket.training import turns
from colm_vl.pocket.training.turns import Guided
from colm_vl.pocket.world import CHOICE_SHARE, Sample

RIGHT_AT_HOME, RIGHT_ELSEWHERE, RIGHT_GUIDANCE = 0.9, 0.35, 0.85
SCENES = 150
"""Of each domain, whose captions and answers wrong replies are taken from."""


def guided(key: str, rng: Random, n: int, favour: Mapping[str, float] | None = None) -> tuple[Guided, ...]:
    """Up to `n` questions about a scene of any domain with drafts and guidance, about as often right as real ones.
    `favour` as in `world.samples_of`."""
    samples = world.samples_of(key, world.scene(key, rng.choice(tuple(DOMAINS))), rng, n, CHOICE_SHARE, favour)
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
    """What was right of another scene, for a question of the same kind."""
    caption, answer = rng.choice(_others()[sample.domain, sample.kind])
    if sample.choices:
        answer = rng.choice(sample.choices)
    return caption, answer


@cache
def _others() -> Mapping[tuple[str, str], Sequence[tuple[str, str]]]:
    found: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for domain in DOMAINS:
        for index in range(SCENES):
            key = f"train/others/{index}"
            for sample in world.samples_of(key, world.scene(key, domain), Random(key), 8):
                found[domain, sample.kind].append((sample.caption, sample.answer_text))
    return found
