"""The pocket models under a schema, which they were not trained on: their replies can be read, right or wrong."""

from __future__ import annotations

import json

from colm_vl import CoLM, Team
from colm_vl.pocket import world
from colm_vl.types import Query
from processors.images import Image


def test_every_reply_of_a_client_is_read() -> None:
    samples = list(world.split("test", 12))
    questions = [Query(one.question, tuple(map(Image.open, one.pictures)), one.choices, one.id) for one in samples]
    team = Team.pocket().with_policy(reply_format="json", strategy="solo:shapes")
    with CoLM(team) as colm:
        traces = list(colm.batch(questions))
    assert all(trace.drafts[0].readable for trace in traces)
    assert all(list(json.loads(trace.drafts[0].text)) == ["caption", "answer", "confidence"] for trace in traces)
    assert not any("no answer" in note for trace in traces for note in trace.notes)
