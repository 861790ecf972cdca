"""The pocket world: a seeded generator of drawn pictures with questions, in six domains.

`generate(seed, n)` makes fresh questions. `split` gives the three fixed, disjoint sets with which the pocket team was
trained, tuned and measured. Each sample has its own random generator, seeded with a string of set, seed, domain and
index, so that sets never share samples and a sample does not depend on previous ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Literal

from PIL import Image

from colm_vl.pocket.scenes import DOMAINS, Scene, SceneQuestion

Split = Literal["train", "validation", "test"]

TEST_SIZE = 1200
LETTERS = "ABCDEF"
OPTIONS = 3
"""The number of options of a multiple-choice question."""
CHOICE_SHARE = 0.3
"""The share of multiple-choice questions among those that can be asked with options."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One question about one scene.

    `answer` is the right answer: the letter if one of the `choices` is right, or else the text. `answer_text` is always
    the text.
    """

    id: str
    domain: str
    kind: str
    question: str
    pictures: tuple[Image.Image, ...]
    choices: tuple[str, ...]
    answer: str
    answer_text: str
    caption: str


def generate(seed: int, n: int, domain: str | None = None) -> Iterator[Sample]:
    """`n` fresh questions, of one domain or of all in turn. The same seed gives the same questions.

    Raises `ValueError` for an unknown domain.
    """
    yield from _samples(f"fresh/{seed}", n, domain)


def split(name: Split, n: int | None = None, domain: str | None = None) -> Iterator[Sample]:
    """The first `n` questions of a fixed set (by default the 1,200 of the test set)."""
    yield from _samples(name, TEST_SIZE if n is None else n, domain)


def scene(key: str, domain: str) -> Scene:
    """The scene with the seed `key` and all its questions. Used in training, with several questions per picture."""
    return _maker(domain)(Random(f"colm-vl/{key}/{domain}"))


def samples_of(
    key: str,
    drawn: Scene,
    rng: Random,
    n: int,
    choice_share: float = CHOICE_SHARE,
    favour: Mapping[str, float] | None = None,
) -> tuple[Sample, ...]:
    """Up to `n` different questions about a scene, some with lettered options. All kinds of questions are equally
    likely, except that `favour` multiplies the probability of some."""
    pool = list(drawn.questions)
    chosen: list[SceneQuestion] = []
    while pool and len(chosen) < n:
        kinds = sorted({ask.kind for ask in pool})
        kind = rng.choices(kinds, [favour.get(kind, 1.0) for kind in kinds])[0] if favour else rng.choice(kinds)
        ask = rng.choice([ask for ask in pool if ask.kind == kind])
        pool.remove(ask)
        chosen.append(ask)
    return tuple(_sample(f"{key}/{index}", drawn, ask, rng, choice_share) for index, ask in enumerate(chosen))


def _samples(key: str, n: int, domain: str | None) -> Iterator[Sample]:
    names = tuple(DOMAINS) if domain is None else (domain,)
    for index in range(n):
        name = names[index % len(names)]
        own = f"{key}/{index}"
        yield samples_of(own, scene(own, name), Random(f"colm-vl/{own}/{name}/ask"), 1)[0]


def _sample(key: str, drawn: Scene, ask: SceneQuestion, rng: Random, choice_share: float) -> Sample:
    choices: tuple[str, ...] = ()
    answer = ask.answer
    options = [ask.answer, *ask.others] if ask.answerable else [*ask.others]
    if len(options) == OPTIONS and rng.random() < choice_share:
        rng.shuffle(options)
        choices = tuple(options)
        answer = LETTERS[choices.index(ask.answer)] if ask.answerable else ask.answer
    return Sample(
        f"{drawn.domain}/{key}",
        drawn.domain,
        ask.kind,
        ask.question,
        drawn.pictures,
        choices,
        answer,
        ask.answer,
        ask.relevant or drawn.caption,
    )


def _maker(domain: str) -> Callable[[Random], Scene]:
    maker = DOMAINS.get(domain)
    if maker is None:
        raise ValueError(f"domain {domain!r} is unknown: expected one of {', '.join(DOMAINS)}")
    return maker
