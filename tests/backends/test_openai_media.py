"""Pictures that vLLM keeps by uuid. The endpoint here does what vLLM does; `make test-vllm` asks a real one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import PIL.Image
import pytest

from colm_vl.backends.base import Backend, Message, Request
from colm_vl.errors import BackendError
from colm_vl.team import Team
from processors.images import Image
from tests.endpoint import Answer, Endpoint, Fault, Seen

RED, BLUE = (Image.open(PIL.Image.new("RGB", (60, 40), colour)) for colour in ("red", "blue"))

Connect = Callable[..., Backend]


@pytest.fixture
def model(model: Connect) -> Connect:
    return partial(model, engine="vllm")


@dataclass
class Engine:
    """Keeps the pictures that it was sent with a uuid."""

    kept: set[str] = field(default_factory=set)
    sent: list[tuple[str, bool]] = field(default_factory=list)

    def __call__(self, seen: Seen) -> Answer:
        for number, part in enumerate(part for part in seen.parts if part["type"] == "image_url"):
            self.sent.append((part["uuid"], part["image_url"] is not None))
            if part["image_url"] is not None:
                self.kept.add(part["uuid"])
            elif part["uuid"] not in self.kept:
                said = f"Cache miss for image at index {number} but data is not provided."
                return Fault("status", 400, said)
        return "Answer: yes"


def ask(*images: Image, scope: str = "") -> Request:
    return Request((Message("user", (*images, "Which colour?")),), timeout=20, scope=scope)


async def test_a_picture_is_sent_once_and_then_named(model: Connect) -> None:
    engine = Engine()
    with Endpoint(engine) as endpoint:
        backend = model(endpoint)
        sent = [(await backend.generate(ask(*images))).sent for images in ((RED,), (RED, BLUE), (BLUE, RED))]
        async for _ in backend.stream(ask(RED)):
            pass
    red, blue = dict.fromkeys(uuid for uuid, _ in engine.sent)
    assert engine.sent == [(red, True), (red, False), (blue, True), (blue, False), (red, False), (red, False)]
    assert [(each.images, each.pixels) for each in sent] == [(1, 2400), (1, 2400), (0, 0)]


async def test_pictures_that_the_engine_has_dropped_are_sent_again(model: Connect) -> None:
    engine = Engine()
    with Endpoint(engine) as endpoint:
        backend = model(endpoint, max_retries=0)
        await backend.generate(ask(RED))
        engine.kept.clear()
        generation = await backend.generate(ask(RED))
        again = await backend.generate(ask(RED))
    assert (generation.text, generation.attempts, generation.sent.images) == ("Answer: yes", 2, 1)
    assert again.sent.images == 0


async def test_a_uuid_serves_one_caller_only(model: Connect) -> None:
    engine = Engine()
    with Endpoint(engine) as endpoint:
        backend = model(endpoint)
        for scope in ("ann", "bob", "ann"):
            await backend.generate(ask(RED, scope=scope))
        await model(endpoint).generate(ask(RED, scope="ann"))  # another process cannot name it either
    assert [whole for _, whole in engine.sent] == [True, True, False, True]
    assert len(engine.kept) == 3


async def test_another_error_is_not_taken_for_a_missing_picture(model: Connect) -> None:
    with Endpoint(["Answer: yes", Fault("status", 400, "no such thing")]) as endpoint:
        backend = model(endpoint)
        await backend.generate(ask(RED))
        with pytest.raises(BackendError, match="no such thing"):
            await backend.generate(ask(RED))
    assert len(endpoint.seen) == 2


async def test_other_endpoints_get_no_uuid(model: Connect) -> None:
    with Endpoint() as endpoint:
        await model(endpoint, engine=None).generate(ask(RED))
    (part,) = (part for part in endpoint.seen[0].parts if part["type"] == "image_url")
    assert set(part) == {"type", "image_url"}


def test_finished_calls_stay_valid_if_the_engine_is_named() -> None:
    table = {"name": "eyes", "backend": "openai", "model": "m", "base_url": "http://localhost:1/v1"}
    plain, named = (Team.from_dict({"clients": [table | more]}).clients[0] for more in ({}, {"engine": "vllm"}))
    assert plain.fingerprint == named.fingerprint
    assert replace(plain, options=named.options).fingerprint == plain.fingerprint
