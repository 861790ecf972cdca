"""Draws the boxes that models give as evidence, on the picture of the question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from colm_vl.boxes import MAX_BOXES, Box, read_boxes

from .elements import tag, text
from .view import View

_COLOURS = 6
"""Of boxes: cv-box-0, … in the style sheet."""
_MOST_LABEL = 40


@dataclass(frozen=True, slots=True)
class Evidence:
    """A box, the member that gave it, and the place of that member in the team."""

    member: str
    place: int
    box: Box


def evidence(view: View) -> Sequence[Evidence]:
    """The boxes of the latest reply of each member that has any."""
    places = {member.name: place for place, member in enumerate(view.members)}
    found = [
        Evidence(name, places[name], box)
        for name, scale in view.scales.items()
        if name in places
        for box in next(filter(None, (read_boxes(said, scale) for said in _texts(view, name))), ())
    ]
    return sorted(found, key=lambda one: one.place)[:MAX_BOXES]


def on_picture(picture: str, view: View) -> str:
    """`picture`, an `img` in HTML, with the boxes on it."""
    boxes = evidence(view)
    if not boxes or view.size is None:
        return picture
    drawn = "".join(_rectangle(one) for one in boxes)
    overlay = f'<svg class="cv-boxes" aria-hidden="true">{drawn}</svg>'
    # Both are whole numbers.
    ratio = f"--cv-width:{view.size.width:d};--cv-height:{view.size.height:d}"
    return f'<span class="cv-boxed" style="{ratio}">{picture}{overlay}</span>'


def legend(view: View) -> str:
    """What the boxes are, in words."""
    if view.size is None:
        return ""
    rows = (
        tag(
            "li",
            tag("span", "", f"cv-swatch {_colour(one)}") + text(f"{one.member}: {_short(one.box.label) or 'a box'}"),
        )
        for one in evidence(view)
    )
    listed = "".join(rows)
    return tag("ul", listed, "cv-evidence", aria_label="Boxes on the picture") if listed else ""


def _texts(view: View, name: str) -> Iterator[str]:
    """What the member wrote, its latest reply first. In a reply that is a JSON object, boxes are escaped, so its
    description is read as well."""
    rounds = sorted({round for round, _ in view.refinements} | set(view.guidance), reverse=True)
    for round in rounds:
        if refinement := view.refinements.get((round, name)):
            yield from (refinement.text, refinement.caption)
        guidance = view.guidance.get(round)
        if guidance and guidance.server == name:
            yield from (guidance.text, guidance.evidence)
    if view.verdict and view.verdict.server == name:
        yield from (view.verdict.text, view.verdict.caption)
    for draft in view.drafts.get(name, [])[:1]:
        yield from (draft.text, draft.caption)


def _rectangle(one: Evidence) -> str:
    box = one.box
    place = (
        f'x="{box.left:.2%}" y="{box.top:.2%}" width="{box.right - box.left:.2%}" height="{box.bottom - box.top:.2%}"'
    )
    label = tag("text", text(_short(box.label) or one.member), x=f"{box.left:.2%}", y=f"{box.top:.2%}",
                dx=4, dy=-9 if box.top > 0.06 else 22)  # fmt: skip
    return f'<g class="{_colour(one)}"><rect class="cv-halo" {place}/><rect {place}/>{label}</g>'


def _colour(one: Evidence) -> str:
    return f"cv-box-{one.place % _COLOURS}"


def _short(label: str) -> str:
    return label if len(label) <= _MOST_LABEL else f"{label[: _MOST_LABEL - 1]}…"
