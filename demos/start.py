"""What the side of the answer shows before the first question: how the team works, and a finished example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from . import draw
from .examples import finished_example
from .history import Entry


@dataclass(frozen=True, slots=True)
class Start:
    """HTML of the parts of the page."""

    remark: str
    pictures: str
    answer: str
    columns: str


def start() -> Start:
    """The example is a saved trace of the pocket team: no model is asked for it."""
    entry = Entry.from_dict(finished_example())
    if entry is None:  # the file is of another version
        return Start("", "", welcome(), "")
    view = entry.view()
    words = "Below is an example, which the pocket team answered before: tiny models for drawn pictures."
    # Without its phase, since the page takes a finished phase for that of the visitor's question.
    answer = draw.answer(view).replace(' data-phase="done"', "")
    return Start(welcome(words), draw.pictures(entry.thumbnails, view), answer, draw.columns(view))


def welcome(below: str = "") -> str:
    steps = ("Each small model drafts an answer on its own.", "The larger one reads all drafts and says what to check.",
             "Each small model reads this, and keeps or changes its answer.")  # fmt: skip
    listed = "".join(draw.tag("li", step) for step in steps)
    inside = draw.tag("p", "Ask a question about a picture.", "cv-headline cv-quiet")
    inside += draw.tag("ol", listed, "cv-steps")
    inside += draw.tag("p", below, "cv-aside cv-below") if below else ""
    return draw.tag("section", inside, "cv-answer", aria_label="How it works" if below else "Answer")


__all__: Sequence[str] = ["Start", "start", "welcome"]
