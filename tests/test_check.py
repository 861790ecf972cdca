"""What `CoLM.check` finds out about members."""

from __future__ import annotations

from typing import Any

from colm_vl.backends.base import Request
from colm_vl.errors import Unsupported
from tests.teams import scripted


def text_only(request: Request) -> str:
    """As llama.cpp without a projector: nothing says beforehand that pictures are refused."""
    if request.images:
        raise Unsupported("image input is not supported", status=500)
    return "Yes."


def test_a_text_only_member_works_without_pictures() -> None:
    with scripted({"reader": text_only, "deaf": [{"error": "unsupported"}]}, strategy="vote") as colm:
        reader, deaf = colm.check()
    assert (reader.works, reader.pictures) == (True, 0)
    assert "works without pictures" in reader.detail
    assert not deaf.works  # it refuses texts too


def test_a_member_that_takes_pictures_is_asked_once() -> None:
    asked: list[Any] = []

    def looks(request: Request) -> str:
        asked.append(request)
        return "Yes."

    with scripted({"eyes": looks}, strategy="vote") as colm:
        (row,) = colm.check()
    assert (row.works, row.pictures, len(asked)) == (True, None, 1)
    assert asked[0].images
