"""The scenes of the pocket world: their pictures, captions, and all questions that can be asked about them.

For each domain, one function makes a `Scene` from a random generator. Captions are complete and have a fixed order, so
that a model with a correct caption can answer from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from random import Random
from types import MappingProxyType

from PIL import Image, ImageDraw

from colm_vl.pocket.drawing import COLOURS, SHAPES, SIDE, Box, add_noise, draw_digit, draw_shape, ink, paper, scatter

CELLS = ("top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right")
"""The nine places of the grid, in reading order."""
CORNERS = ("top left", "top right", "bottom left", "bottom right")
YES_NO = ("yes", "no")


@dataclass(frozen=True, slots=True)
class SceneQuestion:
    """A question about a scene. `others` are wrong answers for multiple choice; if empty, the question is always open.

    `relevant` is the relevant part of the caption, or empty if all of it is relevant. `answerable`: the right answer is
    one of the choices; otherwise, all choices are wrong and `answer` says that the model does not know.
    """

    kind: str
    question: str
    answer: str
    others: tuple[str, ...] = ()
    relevant: str = ""
    answerable: bool = True


@dataclass(frozen=True, slots=True)
class Spot:
    """The centre of an object, in pixels of the scene's `picture`-th picture."""

    picture: int
    kind: str
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Scene:
    """Pictures (none in the text domain), a complete caption, and all possible questions. `spots` are the objects of
    scenes in which objects are counted."""

    domain: str
    pictures: tuple[Image.Image, ...]
    caption: str
    questions: tuple[SceneQuestion, ...]
    spots: tuple[Spot, ...] = ()


def _near(rng: Random, value: int, low: int = 0) -> tuple[str, ...]:
    """Two numbers close to `value`."""
    nearby = [other for other in range(max(low, value - 3), value + 4) if other != value]
    return tuple(str(other) for other in rng.sample(nearby, 2))


def _besides(rng: Random, right: str, pool: Sequence[str]) -> tuple[str, ...]:
    """Up to two entries of `pool` that are not `right`."""
    rest = [entry for entry in pool if entry != right]
    return tuple(rng.sample(rest, min(2, len(rest))))


def shapes(rng: Random) -> Scene:
    """Two or three different objects on a grid of nine cells."""
    count = rng.randint(2, 3)
    cells = sorted(rng.sample(range(9), count))
    kinds = rng.sample([(colour, shape) for colour in COLOURS for shape in SHAPES], count)
    picture = paper(rng)
    pen = ImageDraw.Draw(picture)
    step = SIDE / 3
    if rng.random() < 0.5:
        for edge in (step, 2 * step):
            pen.line((edge, 0, edge, SIDE), fill=(150, 150, 150))
            pen.line((0, edge, SIDE, edge), fill=(150, 150, 150))
    for cell, (colour, shape) in zip(cells, kinds, strict=True):
        row, column = divmod(cell, 3)
        box = Box(
            (column + 0.5) * step + rng.uniform(-2, 2), (row + 0.5) * step + rng.uniform(-2, 2), rng.uniform(9, 12.5)
        )
        draw_shape(rng, pen, shape, colour, box)
    placed = tuple((CELLS[cell], colour, shape) for cell, (colour, shape) in zip(cells, kinds, strict=True))
    caption = ", ".join(f"{place} {colour} {shape}" for place, colour, shape in placed)
    questions = [*_attribute_questions(rng, placed), *_relation_questions(rng, cells, placed)]
    return Scene("shapes", (add_noise(rng, picture),), caption, tuple(questions))


def _attribute_questions(rng: Random, placed: Sequence[tuple[str, str, str]]) -> list[SceneQuestion]:
    questions: list[SceneQuestion] = []
    colours = [colour for _, colour, _ in placed]
    forms = [shape for _, _, shape in placed]
    for place, colour, shape in placed:
        seen = f"{place} {colour} {shape}"
        hues, other_shapes = _besides(rng, colour, tuple(COLOURS)), _besides(rng, shape, SHAPES)
        questions.append(
            SceneQuestion("position", f"Where is the {colour} {shape}?", place, _besides(rng, place, CELLS), seen)
        )
        questions.append(SceneQuestion("attribute", f"What colour is the object at the {place}?", colour, hues, seen))
        questions.append(
            SceneQuestion("attribute", f"What shape is the object at the {place}?", shape, other_shapes, seen)
        )
        if forms.count(shape) == 1:
            questions.append(SceneQuestion("attribute", f"What colour is the {shape}?", colour, hues, seen))
        if colours.count(colour) == 1:
            questions.append(
                SceneQuestion("attribute", f"What shape is the {colour} object?", shape, other_shapes, seen)
            )
    return questions


def _relation_questions(
    rng: Random, cells: Sequence[int], placed: Sequence[tuple[str, str, str]]
) -> list[SceneQuestion]:
    questions: list[SceneQuestion] = []
    for one, two in combinations(range(len(cells)), 2):
        first, second = (one, two) if rng.random() < 0.5 else (two, one)
        (row, column), (row2, column2) = divmod(cells[first], 3), divmod(cells[second], 3)
        a, b = (" ".join(placed[which][1:]) for which in (first, second))
        seen = ", ".join(" ".join(placed[which]) for which in (first, second))
        if column != column2:
            side, holds = ("left of", column < column2) if rng.random() < 0.5 else ("right of", column > column2)
            questions.append(SceneQuestion("relation", f"Is the {a} {side} the {b}?", YES_NO[not holds], relevant=seen))
        if row != row2:
            side, holds = ("above", row < row2) if rng.random() < 0.5 else ("below", row > row2)
            questions.append(SceneQuestion("relation", f"Is the {a} {side} the {b}?", YES_NO[not holds], relevant=seen))
    return questions


def counting(rng: Random) -> Scene:
    """Two to five scattered objects of one or two kinds."""
    kinds = rng.sample([(colour, shape) for colour in COLOURS for shape in SHAPES], rng.randint(1, 2))
    total = rng.randint(2, 5)
    numbers = [1] * len(kinds)
    for _ in range(total - len(kinds)):
        numbers[rng.randrange(len(kinds))] += 1
    tally = sorted(zip(kinds, numbers, strict=True))
    picture = paper(rng)
    pen = ImageDraw.Draw(picture)
    things = [kind for kind, number in tally for _ in range(number)]
    rng.shuffle(things)
    boxes = scatter(rng, total, rng.uniform(9.0, 11.0))
    for (colour, shape), box in zip(things, boxes, strict=True):
        draw_shape(rng, pen, shape, colour, box)
    spots = tuple(Spot(0, f"{c} {s}", box.x, box.y) for (c, s), box in zip(things, boxes, strict=True))
    caption = ", ".join(f"{colour} {shape} {number}" for (colour, shape), number in tally)
    by_colour = {c: sum(n for (colour, _), n in tally if colour == c) for c in COLOURS}
    by_shape = {s: sum(n for (_, shape), n in tally if shape == s) for s in SHAPES}
    questions = [SceneQuestion("total", "How many objects are there?", str(total), _near(rng, total, 1))]
    present = [colour for colour, number in by_colour.items() if number]
    absent = [colour for colour, number in by_colour.items() if not number]
    questions += [
        SceneQuestion("by colour", f"How many {colour} objects are there?", str(number), _near(rng, number))
        for colour, number in ((colour, by_colour[colour]) for colour in [*present, rng.choice(absent)])
    ]
    for shape, number in by_shape.items():
        if number or rng.random() < 0.2:
            questions.append(
                SceneQuestion("by shape", f"How many objects are a {shape}?", str(number), _near(rng, number))
            )
    for one, two in combinations(present, 2):
        one, two = (one, two) if rng.random() < 0.5 else (two, one)
        holds = by_colour[one] > by_colour[two]
        questions.append(
            SceneQuestion("comparison", f"Are there more {one} objects than {two} objects?", YES_NO[not holds])
        )
    return Scene("counting", (add_noise(rng, picture),), caption, tuple(questions), spots)


def charts(rng: Random) -> Scene:
    """A bar chart with three bars of different colours and values from 1 to 9, usually with gridlines."""
    count = 3
    colours = rng.sample(tuple(COLOURS), count)
    values = [rng.randint(1, 9) for _ in colours]
    picture = paper(rng)
    pen = ImageDraw.Draw(picture)
    base, unit = SIDE - rng.randint(2, 6), rng.uniform(7.6, 8.4)
    for level in range(1, 10) if rng.random() < 0.8 else ():
        pen.line((0, base - level * unit, SIDE, base - level * unit), fill=(175, 175, 175))
    pen.line((0, base, SIDE, base), fill=(60, 60, 60))
    slot = (SIDE - 4) / count
    width = slot * rng.uniform(0.45, 0.85)
    for index, (colour, value) in enumerate(zip(colours, values, strict=True)):
        left = 2 + index * slot + (slot - width) / 2 + rng.uniform(-1, 1)
        pen.rectangle((left, base - value * unit, left + width, base), fill=ink(rng, colour), outline=(70, 70, 70))
    caption = ", ".join(f"{colour} {value}" for colour, value in zip(colours, values, strict=True))
    return Scene("charts", (add_noise(rng, picture),), caption, tuple(_chart_questions(rng, colours, values)))


def _chart_questions(rng: Random, colours: Sequence[str], values: Sequence[int]) -> list[SceneQuestion]:
    questions: list[SceneQuestion] = []
    for word, extreme in (("tallest", max(values)), ("shortest", min(values))):
        if values.count(extreme) == 1:
            right = colours[values.index(extreme)]
            questions.append(SceneQuestion(word, f"Which bar is the {word}?", right, _besides(rng, right, colours)))
    for colour, value in zip(colours, values, strict=True):
        questions.append(
            SceneQuestion("value", f"What is the value of the {colour} bar?", str(value), _near(rng, value))
        )
    for one, two in combinations(range(len(values)), 2):
        one, two = (one, two) if rng.random() < 0.5 else (two, one)
        a, b, gap = colours[one], colours[two], abs(values[one] - values[two])
        questions.append(
            SceneQuestion(
                "difference", f"What is the difference between the {a} bar and the {b} bar?", str(gap), _near(rng, gap)
            )
        )
        if gap:
            taller = values[one] > values[two]
            questions.append(
                SceneQuestion("comparison", f"Is the {a} bar taller than the {b} bar?", YES_NO[not taller])
            )
    return questions


def digits(rng: Random) -> Scene:
    """Four written digits in two rows."""
    written = [rng.randint(0, 9) for _ in CORNERS]
    picture = paper(rng)
    pen = ImageDraw.Draw(picture)
    half = SIDE / 4
    for index, digit in enumerate(written):
        row, column = divmod(index, 2)
        box = Box(
            (2 * column + 1) * half + rng.uniform(-2, 2), (2 * row + 1) * half + rng.uniform(-2, 2), rng.uniform(14, 17)
        )
        draw_digit(rng, pen, digit, box)
    a, b, c, d = written
    caption = f"top {a} {b}, bottom {c} {d}"
    questions: list[SceneQuestion] = []
    for row_name, tens, ones in (("top", a, b), ("bottom", c, d)):
        questions.append(
            SceneQuestion(
                "add", f"What is the sum of the {row_name} digits?", str(tens + ones), _near(rng, tens + ones)
            )
        )
        questions.append(
            SceneQuestion("read", f"What are the {row_name} digits?", f"{tens} {ones}", _swapped(rng, tens, ones))
        )
    for place, digit in zip(CORNERS, written, strict=True):
        questions.append(SceneQuestion("read", f"What digit is at the {place}?", str(digit), _near(rng, digit)))
    for one, two in combinations(range(4), 2):
        if written[one] != written[two]:
            word, right = rng.choice((("larger", max), ("smaller", min)))
            answer = str(right(written[one], written[two]))
            questions.append(
                SceneQuestion("compare", f"Which digit is {word}: {CORNERS[one]} or {CORNERS[two]}?", answer)
            )
    return Scene("digits", (add_noise(rng, picture),), caption, tuple(questions))


def _swapped(rng: Random, tens: int, ones: int) -> tuple[str, ...]:
    """Two wrong readings that resemble `tens ones`."""
    wrong = {f"{ones} {tens}", f"{tens} {(ones + rng.randint(1, 9)) % 10}", f"{(tens + rng.randint(1, 9)) % 10} {ones}"}
    return tuple(sorted(wrong - {f"{tens} {ones}"})[:2])


def pairs(rng: Random) -> Scene:
    """Two pictures, each with one to five objects of one kind."""
    kinds = rng.sample([(colour, shape) for colour in COLOURS for shape in SHAPES], 2)
    numbers = [rng.randint(1, 5) for _ in kinds]
    pictures: list[Image.Image] = []
    spots: list[Spot] = []
    for (colour, shape), number in zip(kinds, numbers, strict=True):
        picture = paper(rng)
        pen = ImageDraw.Draw(picture)
        for box in scatter(rng, number, rng.uniform(9.0, 11.0)):
            draw_shape(rng, pen, shape, colour, box)
            spots.append(Spot(len(pictures), f"{colour} {shape}", box.x, box.y))
        pictures.append(add_noise(rng, picture))
    first, second = numbers
    (colour, shape), (colour2, shape2) = kinds
    caption = f"first {colour} {shape} {first}, second {colour2} {shape2} {second}"
    more = "first" if first > second else "second" if second > first else "same"
    fewer = {"first": "second", "second": "first", "same": "same"}[more]
    orders = ("first", "second", "same")
    together, gap = first + second, abs(first - second)
    questions = [
        SceneQuestion(
            "more", "Which picture has more objects: first, second or same?", more, _besides(rng, more, orders)
        ),
        SceneQuestion(
            "fewer", "Which picture has fewer objects: first, second or same?", fewer, _besides(rng, fewer, orders)
        ),
        SceneQuestion(
            "together", "How many objects are in both pictures together?", str(together), _near(rng, together, 1)
        ),
        SceneQuestion(
            "gap",
            "What is the difference between the numbers of objects in the two pictures?",
            str(gap),
            _near(rng, gap),
        ),
    ]
    for name, (hue, form) in zip(orders, kinds, strict=False):
        questions.append(
            SceneQuestion(
                "colour", f"What colour are the objects in the {name} picture?", hue, _besides(rng, hue, tuple(COLOURS))
            )
        )
        questions.append(
            SceneQuestion(
                "shape", f"What shape are the objects in the {name} picture?", form, _besides(rng, form, SHAPES)
            )
        )
    return Scene("pairs", tuple(pictures), caption, tuple(questions), tuple(spots))


def text(rng: Random) -> Scene:
    """Simple arithmetic and ordering, without pictures."""
    a, b = rng.randint(1, 9), rng.randint(1, 9)
    high, low = max(a, b), min(a, b)
    trio = rng.sample(range(1, 13), 3)
    listing = ", ".join(map(str, trio))
    number = rng.randint(1, 18)
    questions = (
        SceneQuestion("add", f"What is {a} + {b}?", str(a + b), _near(rng, a + b)),
        SceneQuestion("subtract", f"What is {high} - {low}?", str(high - low), _near(rng, high - low)),
        SceneQuestion(
            "order",
            f"Which number is the largest: {listing}?",
            str(max(trio)),
            _besides(rng, str(max(trio)), [str(n) for n in trio]),
        ),
        SceneQuestion(
            "order",
            f"Which number is the smallest: {listing}?",
            str(min(trio)),
            _besides(rng, str(min(trio)), [str(n) for n in trio]),
        ),
        SceneQuestion("after", f"What number comes after {number}?", str(number + 1), _near(rng, number + 1)),
        SceneQuestion("compare", f"Is {trio[0]} larger than {trio[1]}?", YES_NO[trio[0] < trio[1]]),
    )
    return Scene("text", (), "no picture", questions)


DOMAINS: Mapping[str, Callable[[Random], Scene]] = MappingProxyType(
    {"shapes": shapes, "counting": counting, "charts": charts, "digits": digits, "pairs": pairs, "text": text}
)
