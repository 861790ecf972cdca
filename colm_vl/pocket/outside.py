"""Pictures and questions that are not of the pocket world: the right reply is that the model does not know.

Two kinds of pictures and a third of the questions are held out of training, to measure doubt with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from random import Random

from PIL import Image, ImageDraw, ImageFilter

from colm_vl.pocket import world
from colm_vl.pocket.drawing import SIDE
from colm_vl.pocket.scenes import DOMAINS, Scene, SceneQuestion
from colm_vl.pocket.wordings import Use

OUTSIDE = "outside"
UNKNOWN = "I do not know"
NOT_KNOWN = "not known"
"""The caption of what is not known."""

_THINGS = ("dog", "man", "woman", "car", "tree", "house", "child", "train", "sign", "bird", "bottle", "river")
_OPTIONS = (*_THINGS, "red", "blue", "green", "yellow", "circle", "square", "yes", "no", "2", "3", "5", "7")
_QUESTIONS: Mapping[Use, tuple[str, ...]] = {
    "training": (
        "What is the {a} doing?", "Is the {a} behind the {b}?", "Who painted this?", "What is written on the {a}?",
        "Why is the {a} here?", "What is the {a} made of?", "Does the {a} look old?", "In which country is this?",
        "Describe the picture.", "What time is it?", "How many people are there?", "What brand is the {a}?",
        "Is it raining?", "What happens next?", "Which animal is this?", "How old is the {a}?",
    ),
    "held out": (
        "What does the {a} hold?", "Is this a photo of a {b}?", "Who wrote this book?", "Where was this taken?",
        "What is the capital of France?", "Is the {a} happy?", "Which season is it?", "How much does the {a} cost?",
    ),
}  # fmt: skip
_SYLLABLES = ("ba", "ko", "tri", "ne", "lu", "sha", "mor", "vi", "dep", "zu", "qua", "fen")


def scene(key: str, use: Use = "training") -> Scene:
    """A scene about which nothing is known: an outside picture with any question, or any picture with a question that
    has nothing to do with the world. The same key gives the same scene."""
    rng = Random(f"colm-vl/{key}/{OUTSIDE}/{use}")
    known = world.scene(key, rng.choice([name for name in DOMAINS if name != "text"]))
    asked = [(_question(rng, use), _options(rng)) for _ in range(5)]
    if (way := rng.random()) < 0.5:
        pictures = tuple(picture(rng, use) for _ in known.pictures)
        asked += [
            (one.question, (one.answer, *one.others) if len(one.others) == world.OPTIONS - 1 else ())
            for one in rng.sample(known.questions, min(5, len(known.questions)))
        ]
    else:
        pictures = known.pictures if way < 0.8 else ()
    questions = tuple(
        SceneQuestion("unknown", question, UNKNOWN, options, answerable=False)
        for question, options in dict(asked).items()
    )
    return Scene(OUTSIDE, pictures, NOT_KNOWN, questions)


def picture(rng: Random, use: Use = "training") -> Image.Image:
    """A picture of a kind that the world does not draw."""
    return rng.choice(_PICTURES[use])(rng)


def _question(rng: Random, use: Use) -> str:
    if rng.random() < 0.2:
        words = ("".join(rng.choices(_SYLLABLES, k=rng.randint(1, 3))) for _ in range(rng.randint(2, 7)))
        return " ".join(words).capitalize() + "?"
    a, b = rng.sample(_THINGS, 2)
    return rng.choice(_QUESTIONS[use]).format(a=a, b=b)


def _options(rng: Random) -> tuple[str, ...]:
    """Options for a question that has nothing to do with the world."""
    return tuple(rng.sample(_OPTIONS, world.OPTIONS))


def _colour(rng: Random) -> tuple[int, int, int]:
    return rng.randrange(256), rng.randrange(256), rng.randrange(256)


def _texture(rng: Random) -> Image.Image:
    """Coloured noise of a random grain, like a photograph out of focus."""
    side = rng.choice((4, 8, 16, 42))
    return Image.frombytes("RGB", (side, side), rng.randbytes(side * side * 3)).resize((SIDE, SIDE), 3)


def _landscape(rng: Random) -> Image.Image:
    """A sky above hills."""
    drawn = Image.new("RGB", (SIDE, SIDE), _colour(rng))
    pen = ImageDraw.Draw(drawn)
    for level in sorted(rng.uniform(0.2, 0.9) * SIDE for _ in range(rng.randint(2, 4))):
        crest = [(x, level + rng.uniform(-10, 10)) for x in range(0, SIDE + 14, 14)]
        pen.polygon([(0, SIDE), *crest, (SIDE, SIDE)], fill=_colour(rng))
    return drawn.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.5)))


def _figure(rng: Random) -> Image.Image:
    """A face or a body of ellipses before a dark or coloured background."""
    drawn = Image.new("RGB", (SIDE, SIDE), _colour(rng))
    pen = ImageDraw.Draw(drawn)
    for _ in range(rng.randint(4, 9)):
        x, y, wide, high = (rng.uniform(0, SIDE), rng.uniform(0, SIDE), rng.uniform(4, 30), rng.uniform(4, 30))
        pen.ellipse((x - wide, y - high, x + wide, y + high), fill=_colour(rng))
    return drawn


def _writing(rng: Random) -> Image.Image:
    """Lines of small marks, like a page of text."""
    drawn = Image.new("RGB", (SIDE, SIDE), (rng.randint(190, 255),) * 3)
    pen = ImageDraw.Draw(drawn)
    for y in range(6, SIDE - 4, rng.randint(7, 12)):
        x = 4.0
        while x < SIDE - 8:
            wide = rng.uniform(2, 9)
            pen.line((x, y, x + wide, y + rng.uniform(-2, 2)), fill=(40, 40, 40), width=2)
            x += wide + rng.uniform(1, 4)
    return drawn


def _checks(rng: Random) -> Image.Image:
    drawn = Image.new("RGB", (SIDE, SIDE), _colour(rng))
    pen, step, other = ImageDraw.Draw(drawn), rng.randint(6, 21), _colour(rng)
    for x in range(0, SIDE, step):
        for y in range(0, SIDE, step):
            if (x // step + y // step) % 2:
                pen.rectangle((x, y, x + step - 1, y + step - 1), fill=other)
    return drawn


def _rays(rng: Random) -> Image.Image:
    drawn = Image.new("RGB", (SIDE, SIDE), _colour(rng))
    pen, count = ImageDraw.Draw(drawn), rng.randint(5, 16)
    x, y = rng.uniform(0, SIDE), rng.uniform(0, SIDE)
    for ray in range(count):
        turn = 2 * math.pi * ray / count
        pen.line((x, y, x + 120 * math.cos(turn), y + 120 * math.sin(turn)), fill=_colour(rng), width=rng.randint(1, 8))
    return drawn


_PICTURES: Mapping[Use, tuple[Callable[[Random], Image.Image], ...]] = {
    "training": (_texture, _landscape, _figure, _writing),
    "held out": (_checks, _rays),
}
