"""Example questions with known answers, about pictures drawn by this module.

`python -m demos.examples docs/examples` saves the pictures. Examples for the pocket team come from the generator of its
small world of drawings; `python -m demos.choose_examples` chooses them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import typer

INK, PALE, GRID = (38, 42, 51), (110, 116, 128), (222, 225, 231)
BLUE, ORANGE, GREEN, RED = (58, 104, 178), (221, 132, 58), (74, 144, 98), (196, 68, 62)


POCKET_FILE = Path(__file__).with_name("pocket_examples.json")
Kind = Literal["guided", "agree", "wrong"]
"""What an example shows: guidance puts the drafts right, the drafts agree, or the team answers wrongly."""
MARKS: Mapping[Kind, str] = MappingProxyType(
    {"guided": "guidance decides", "agree": "the drafts agree", "wrong": "a mistake"}
)
NOTES: Mapping[Kind, str] = MappingProxyType(
    {
        "guided": "An example in which guidance decides: a vote of the drafts is wrong, the refined answers are right.",
        "agree": "An example in which all drafts are right, and guidance changes nothing.",
        "wrong": "An example of a mistake: with its usual settings, the team answers this question wrongly.",
    }
)


@dataclass(frozen=True, slots=True)
class Example:
    """`truth` is the right answer; `choices` may be empty. `title` is the beginning of the button's text. `kind` is
    what the answer of the pocket team shows."""

    title: str
    question: str
    pictures: tuple[PIL.Image.Image, ...]
    truth: str
    choices: tuple[str, ...] = ()
    kind: Kind | None = None


def pocket_examples() -> Sequence[Example]:
    """One example of each domain of the pocket team's world, drawn with seeds that are not used in training."""
    from colm_vl.pocket import world

    chosen: list[Example] = []
    for one in _pocket_file()["examples"]:
        sample = next(world.generate(one["seed"], 1, one["domain"]))
        title = sample.domain.capitalize()
        known = (sample.question, sample.pictures, sample.answer_text, sample.choices)
        chosen.append(Example(title, *known, one["kind"]))
    return chosen


def finished_example() -> Mapping[str, Any]:
    """The pocket team's answer to its first example, in the form of `Entry.to_dict`."""
    finished: Mapping[str, Any] = _pocket_file()["finished"]
    return finished


def chosen_for() -> str:
    """The digest of the weights for which the examples were chosen."""
    digest: str = _pocket_file()["weights"]
    return digest


def weights_digest() -> str:
    """The digest of the pocket team's weights and settings."""
    from colm_vl.pocket import team_file

    files = sorted(path for path in team_file().parent.joinpath("weights").rglob("*") if path.is_file())
    digests = (hashlib.sha256(file.read_bytes()).digest() for file in (team_file(), *files))
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _pocket_file() -> Any:
    return json.loads(POCKET_FILE.read_text(encoding="utf-8"))


def drawn_examples() -> Sequence[Example]:
    """Charts and scenes for real models."""
    return (
        Example("Bar chart", "In which month were the most bicycles rented?", (rentals(),), "July"),
        Example("Line chart", "By how many degrees does it get warmer from 6:00 to 15:00?", (temperature(),), "14"),
        Example("Street", "How many of the windows are lit?", (house(),), "5"),
        Example(
            "Two pictures",
            "What is in the second picture that is not in the first?",
            (harbour(lighthouse=False), harbour(lighthouse=True)),
            "a lighthouse",
            ("a lighthouse", "a sailing boat", "a bird", "a cloud"),
        ),
    )


# --- the drawings ---


def rentals() -> PIL.Image.Image:
    values = {"Mar": 120, "Apr": 210, "May": 340, "Jun": 410, "Jul": 465, "Aug": 430, "Sep": 290}
    picture, pen = _sheet("Bicycles rented, 2025", "rentals a day")
    _axis(pen, 500, 100)
    slot = 560 / len(values)
    for place, (month, value) in enumerate(values.items()):
        left = 90 + place * slot + slot * 0.2
        pen.rectangle((left, _height(value, 500), left + slot * 0.6, 410), fill=BLUE)
        pen.text((left + slot * 0.3, 424), month, fill=INK, font=_font(17), anchor="mt")
    return picture


def temperature() -> PIL.Image.Image:
    hours = {0: 9, 3: 7, 6: 6, 9: 11, 12: 17, 15: 20, 18: 18, 21: 13}
    picture, pen = _sheet("Temperature on 4 May", "degrees Celsius")
    _axis(pen, 25, 5)
    points = [(110 + hour / 21 * 520, _height(value, 25)) for hour, value in hours.items()]
    pen.line(points, fill=RED, width=4, joint="curve")
    for (x, y), (hour, value) in zip(points, hours.items(), strict=True):
        pen.ellipse((x - 6, y - 6, x + 6, y + 6), fill="white", outline=RED, width=3)
        pen.text((x, y - 14), str(value), fill=INK, font=_font(16), anchor="mb")
        pen.text((x, 424), f"{hour}:00", fill=INK, font=_font(17), anchor="mt")
    return picture


def house() -> PIL.Image.Image:
    picture = PIL.Image.new("RGB", (720, 480), (28, 36, 66))
    pen = PIL.ImageDraw.Draw(picture)
    pen.ellipse((590, 40, 650, 100), fill=(240, 236, 210))
    for x, y in ((60, 60), (150, 110), (250, 45), (420, 80), (510, 50), (690, 150), (120, 190)):
        pen.ellipse((x, y, x + 4, y + 4), fill=(225, 225, 235))
    pen.rectangle((0, 430, 720, 480), fill=(52, 58, 60))
    pen.rectangle((170, 170, 550, 430), fill=(132, 84, 74))
    pen.polygon(((150, 172), (360, 70), (570, 172)), fill=(84, 58, 60))
    lit = {(0, 0), (0, 2), (1, 1), (1, 3), (2, 0)}
    for row in range(3):
        for column in range(4):
            if row == 2 and column in (1, 2):
                continue
            left, top = 200 + column * 86, 195 + row * 78
            pen.rectangle(
                (left, top, left + 54, top + 50), fill=(250, 212, 112) if (row, column) in lit else (48, 50, 68)
            )
            pen.line((left + 27, top, left + 27, top + 50), fill=(92, 62, 58), width=3)
    pen.rectangle((332, 352, 388, 430), fill=(60, 42, 40))
    pen.ellipse((374, 390, 381, 397), fill=(214, 180, 90))
    return picture


def harbour(*, lighthouse: bool) -> PIL.Image.Image:
    picture = PIL.Image.new("RGB", (720, 480), (198, 224, 238))
    pen = PIL.ImageDraw.Draw(picture)
    for x, y in ((120, 70), (480, 100)):
        for shift in (0, 34, 66):
            pen.ellipse((x + shift, y - (12 if shift == 34 else 0), x + shift + 60, y + 36), fill="white")
    pen.rectangle((0, 300, 720, 480), fill=(70, 122, 158))
    wave = [(x, 340 + 6 * math.sin(x / 26)) for x in range(0, 721, 6)]
    for drop in (0, 48, 96):
        for start, end in list(pairwise(wave))[drop // 8 :: 3]:
            pen.line((start[0], start[1] + drop, end[0], end[1] + drop), fill=(128, 172, 200), width=3)
    pen.polygon(((200, 330), (400, 330), (370, 372), (230, 372)), fill=(122, 70, 52))
    pen.line((300, 130, 300, 330), fill=(70, 48, 40), width=6)
    pen.polygon(((308, 140), (308, 312), (410, 312)), fill=(246, 242, 232))
    pen.polygon(((292, 160), (292, 312), (214, 312)), fill=ORANGE)
    pen.arc((520, 190, 552, 214), 200, 340, fill=INK, width=4)
    pen.arc((548, 190, 580, 214), 200, 340, fill=INK, width=4)
    if lighthouse:
        pen.polygon(((560, 310), (720, 290), (720, 350), (590, 350)), fill=(112, 108, 100))
        pen.polygon(((630, 130), (670, 130), (682, 300), (618, 300)), fill=(244, 244, 240))
        for top in (160, 220):
            pen.polygon(((627, top), (673, top), (676, top + 30), (624, top + 30)), fill=RED)
        pen.rectangle((628, 104, 672, 130), fill=(250, 222, 130), outline=INK, width=3)
        pen.polygon(((620, 106), (650, 78), (680, 106)), fill=RED)
    return picture


def draw(folder: Annotated[Path, typer.Argument(help="Folder for the pictures.")]) -> None:
    """Draw the example pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {
        "rentals": rentals(),
        "temperature": temperature(),
        "house": house(),
        "harbour-1": harbour(lighthouse=False),
        "harbour-2": harbour(lighthouse=True),
    }
    for name, picture in pictures.items():
        picture.quantize(64).save(folder / f"{name}.png", optimize=True)


def _sheet(title: str, unit: str) -> tuple[PIL.Image.Image, PIL.ImageDraw.ImageDraw]:
    picture = PIL.Image.new("RGB", (720, 480), "white")
    pen = PIL.ImageDraw.Draw(picture)
    pen.text((90, 26), title, fill=INK, font=_font(26))
    pen.text((90, 62), unit, fill=PALE, font=_font(17))
    return picture, pen


def _axis(pen: PIL.ImageDraw.ImageDraw, top: int, step: int) -> None:
    for level in range(0, top + 1, step):
        y = _height(level, top)
        pen.line((90, y, 650, y), fill=INK if level == 0 else GRID, width=2)
        pen.text((80, y), str(level), fill=PALE, font=_font(16), anchor="rm")


def _height(value: float, top: float) -> float:
    return 410 - value / top * 300


def _font(size: int) -> PIL.ImageFont.FreeTypeFont | PIL.ImageFont.ImageFont:
    return PIL.ImageFont.load_default(size)


if __name__ == "__main__":
    typer.run(draw)
