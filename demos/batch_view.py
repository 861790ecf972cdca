"""The questions of a finished batch to look through, with the viewer of the evaluation's report."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Literal

from colm_vl import Refinement, Trace, viewer
from colm_vl.answers import choice_letters, same
from colm_vl.viewer import rows
from colm_vl.viewer.rows import Judged, Mark

from .batch_questions import UploadedQuestion
from .elements import tag, text


def draw_viewer(
    strategy: str, lines: Sequence[UploadedQuestion], traces: Sequence[Trace], pictures: Mapping[str, str]
) -> str:
    """The HTML, in which `viewer.js` shows the questions that have a trace; "" if there are none."""
    if not traces:
        return ""
    asked = {line.id: line for line in lines}
    items = [_item(asked[trace.id], trace) for trace in traces]
    seen = {image["digest"] for item in items for image in item["images"]}
    shown = {digest: uri for digest, uri in pictures.items() if digest in seen}
    data: dict[str, Any] = {"strategies": [strategy], "groups": {}, "pictures": shown, "items": items}
    # Not in a script: Gradio's templates read the text of those.
    inside = tag("pre", text(viewer.as_json(data)), "v-data", hidden="hidden")
    heading = tag("h2", "Look through the answers")
    return tag(
        "section", heading + tag("div", inside, "viewer", data_local="yes"), "cv-viewer", aria_label="All answers"
    )


def _item(line: UploadedQuestion, trace: Trace) -> dict[str, Any]:
    kind = "choice" if line.choices else "open"
    letters = choice_letters(len(line.choices))
    letter = next(
        (letter for letter, text in zip(letters, line.choices, strict=True) if text == line.truth), line.truth
    )
    item = rows.item(line.id, line.question, kind=kind, options=line.choices, gold=[letter] if line.truth else [])
    judged = list(_judged(trace, line.truth))
    mark = Mark.of(trace) | _changes(judged)
    grade = float(same(trace.answer, line.truth)) if line.truth else None
    return item | {"images": rows.images(trace), "answers": [rows.answer(trace, mark, grade, judged)]}


def _judged(trace: Trace, truth: str) -> Iterator[Judged]:
    """As in the trace, a refinement without a readable answer leaves the client's previous answer in place."""
    before: dict[str, bool] = {}
    said: dict[str, str] = {}
    for reply in (*trace.drafts, *trace.refinements):
        if not truth:
            yield Judged()
            continue
        said[reply.client] = reply.answer or said.get(reply.client, "")
        right = same(said[reply.client], truth)
        was = before.get(reply.client, right) if isinstance(reply, Refinement) else right  # no sample corrects another
        before[reply.client] = right
        flip: Literal["corrected", "regressed", ""] = ("corrected" if right else "regressed") if right != was else ""
        yield Judged(right, flip)


def _changes(judged: Collection[Judged]) -> Mark:
    mark = Mark(0)
    for one in judged:
        if one.flip:
            mark |= Mark[one.flip.upper()]
    return mark
