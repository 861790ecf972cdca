"""The results of `CoLM.check`."""

from __future__ import annotations

from typing import Any

from colm_vl import CoLM, Team
from colm_vl.backends.base import Request
from colm_vl.errors import Unsupported
from tests.endpoint import Answer, Endpoint, Fault, Reply, Seen
from tests.teams import scripted


def text_only(request: Request) -> str:
    """A model like llama.cpp without a projector, which does not say in advance that it refuses pictures."""
    if request.images:
        raise Unsupported("image input is not supported", status=500)
    return "Yes."


def test_a_text_only_member_works_without_pictures() -> None:
    with scripted({"reader": text_only, "deaf": [{"error": "unsupported"}]}, strategy="vote") as colm:
        reader, deaf = colm.check()
    assert (reader.works, reader.images) == (True, 0)
    assert "works without pictures" in reader.detail
    assert not deaf.works  # it refuses texts too


def test_a_member_that_takes_pictures_is_asked_once() -> None:
    asked: list[Any] = []

    def looks(request: Request) -> str:
        asked.append(request)
        return "Yes."

    with scripted({"eyes": looks}, strategy="vote") as colm:
        (row,) = colm.check()
    assert (row.works, row.images, len(asked)) == (True, None, 1)
    assert asked[0].images


def llama_cpp(asked: Seen) -> Answer:
    if asked.pictures:
        return Fault("status", status=500, message="image input is not supported - hint: provide the mmproj")
    return Reply("Yes.")


def test_a_text_only_endpoint_works_without_pictures() -> None:
    with Endpoint(llama_cpp) as endpoint:
        member = {"name": "reader", "backend": "openai", "model": "m", "base_url": endpoint.base_url}
        with CoLM(Team.from_dict({"clients": [member], "policy": {"strategy": "vote"}})) as colm:
            (row,) = colm.check()
    assert (row.works, row.images) == (True, 0)
    assert row.detail.startswith("works without pictures")
