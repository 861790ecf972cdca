"""Models in memory."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from colm_vl.backend_pool import BackendPool
from colm_vl.backends import base, registry
from colm_vl.backends.base import Backend
from colm_vl.backends.scripted import ScriptedBackend
from colm_vl.team import Member


class LocalOptions(base.Options):
    in_process = True


class Loads:
    """Counts the models that are in memory at the same time."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0

    def connect(self, name: str, options: base.Options) -> Backend:
        loads = self

        class Local(ScriptedBackend):
            async def aclose(self) -> None:
                loads.now -= 1

        self.now += 1
        self.most = max(self.most, self.now)
        return Local(["Answer: 5"])


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Loads:
    counter = Loads()
    monkeypatch.setattr(registry, "connect", counter.connect)
    return counter


def members(*names: str) -> list[Member]:
    return [Member(name, "client", "local", LocalOptions(model=name)) for name in names]


async def use(pool: BackendPool, member: Member) -> None:
    async with pool.use(member):
        await asyncio.sleep(0)


async def test_the_number_of_models_in_memory_is_limited(loads: Loads) -> None:
    pool = BackendPool(max_loaded=2)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for member in members("a", "b", "c", "d") * 3:
            group.create_task(use(pool, member))
    assert loads.most == 2
    await pool.aclose()
    assert loads.now == 0


async def test_a_model_in_use_is_not_unloaded(loads: Loads) -> None:
    first, second = members("a", "b")
    pool = BackendPool(max_loaded=1)
    async with pool.use(first):
        waiting = asyncio.create_task(use(pool, second))
        await asyncio.sleep(0)
        assert pool.loads == {"a": 1}
    async with asyncio.timeout(10):
        await waiting
    assert pool.loads == {"a": 1, "b": 1}


async def test_cancelling_a_waiting_call_leaves_the_pool_usable(loads: Loads) -> None:
    first, second = members("a", "b")
    pool = BackendPool(max_loaded=1)
    async with pool.use(first):
        waiting = asyncio.create_task(use(pool, second))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
    async with asyncio.timeout(10):
        await use(pool, second)


async def test_without_a_limit_every_model_stays_loaded(loads: Loads) -> None:
    pool = BackendPool()
    for member in members("a", "b", "a"):
        await use(pool, member)
    assert pool.loads == {"a": 1, "b": 1}


def test_retrained_weights_change_the_fingerprint(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"one" * 100_000)
    before = Member("a", "client", "local", LocalOptions(model=str(tmp_path))).fingerprint
    assert Member("a", "client", "local", LocalOptions(model=str(tmp_path))).fingerprint == before
    weights.write_bytes(b"one" * 99_999 + b"two")
    assert Member("a", "client", "local", LocalOptions(model=str(tmp_path))).fingerprint != before


def test_labels_of_models_contain_no_absolute_path(tmp_path: Path) -> None:
    member = Member("a", "client", "local", LocalOptions(model=str(tmp_path / "weights")))
    assert member.label == "weights"


async def test_a_call_that_ends_does_not_wait_for_another_model_to_be_unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    unloading, go = asyncio.Event(), asyncio.Event()

    class Slow(ScriptedBackend):
        async def aclose(self) -> None:
            unloading.set()
            await go.wait()

    monkeypatch.setattr(registry, "connect", lambda name, options: Slow(["Answer: 5"]))
    a, b, c = members("a", "b", "c")
    pool = BackendPool(max_loaded=2)
    async with pool.use(b):
        await use(pool, a)
        waiting = asyncio.create_task(use(pool, c))  # has a unloaded first
        await unloading.wait()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert pool.loaded == {"a", "b"}  # a counts until it is gone, also if nobody waits any more
    go.set()
    async with asyncio.timeout(10):
        await use(pool, c)
    assert pool.loaded == {"b", "c"}
    await pool.aclose()


async def test_closing_twice_waits_for_the_same_closing(loads: Loads) -> None:
    pool = BackendPool()
    await use(pool, members("a")[0])
    await asyncio.gather(pool.aclose(), pool.aclose())
    assert loads.now == 0


@pytest.mark.parametrize(("max_loaded", "loaded"), [(None, 2), (2, 2), (1, 0)])
async def test_models_are_loaded_ahead_unless_they_take_turns(
    loads: Loads, max_loaded: int | None, loaded: int
) -> None:
    pool = BackendPool(max_loaded=max_loaded)
    await pool.load(members("a", "b"))
    assert loads.now == loaded
