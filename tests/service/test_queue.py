"""The queue: order, weights, limits, cancellation. Nothing here measures time; the clock is the test's."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colm_vl.service.queue import QUANTUM, Caller, FairQueue, Quota, Refusal, Ticket
from colm_vl.service.ray import RemotePlaces, State
from colm_vl.service.settings import Settings

ANN, BOB = Caller("ann"), Caller("bob")


@dataclass
class Calls:
    """Calls of a queue, each in a task that holds its place until it is told to end."""

    queue: FairQueue
    order: list[str] = field(default_factory=list)
    held: dict[int, asyncio.Event] = field(default_factory=dict)
    tasks: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    tickets: dict[int, Ticket] = field(default_factory=dict)
    callers: dict[int, Caller] = field(default_factory=dict)

    async def begin(self, caller: Caller, cost: int = 100, *, tokens: int | None = None) -> int:
        number = len(self.tasks)

        async def call() -> None:
            with self.queue.place(caller, cost) as ticket:
                self.tickets[number] = ticket
                await ticket.turn()
                self.order.append(caller.name)
                await self.held[number].wait()
                ticket.tokens = tokens

        self.held[number] = asyncio.Event()
        self.callers[number] = caller
        self.tasks[number] = asyncio.create_task(call())
        await settled()
        return number

    async def end(self, number: int) -> None:
        self.held[number].set()
        await asyncio.wait([self.tasks[number]])
        await settled()

    async def cancel(self, number: int) -> None:
        self.tasks[number].cancel()
        await asyncio.wait([self.tasks[number]])
        await settled()

    @property
    def served(self) -> Sequence[int]:
        """The calls that have a place, oldest first."""
        return [number for number, ticket in self.tickets.items() if ticket.begun is not None and self.running(number)]

    def running(self, number: int) -> bool:
        return not self.tasks[number].done()

    async def end_all(self) -> None:
        while served := self.served:
            await self.end(served[0])


async def settled() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


@asynccontextmanager
async def calls(places: int = 1, **settings: int) -> AsyncIterator[Calls]:
    made = Calls(FairQueue(places, **settings, clock=lambda: 0.0, now=lambda: 0.0))  # type: ignore[arg-type]
    try:
        yield made
    finally:
        for task in made.tasks.values():
            task.cancel()
        ended = await asyncio.gather(*made.tasks.values(), return_exceptions=True)
    assert not [error for error in ended if isinstance(error, Exception)]
    assert (made.queue.serving, made.queue.waiting) == (0, 0)


async def test_calls_of_one_caller_are_served_in_their_order() -> None:
    async with calls() as made:
        numbers = [await made.begin(ANN) for _ in range(4)]
        for number in numbers:
            assert made.served == [number]
            await made.end(number)


async def test_a_caller_with_many_waiting_calls_does_not_hold_up_another() -> None:
    async with calls() as made:
        for _ in range(50):
            await made.begin(ANN, int(QUANTUM))
        late = await made.begin(BOB, int(QUANTUM))
        assert made.tickets[late].ahead <= 1
        await made.end(made.served[0])
        await made.end(made.served[0])
        assert made.served == [late]


async def test_places_are_shared_by_weight() -> None:
    heavy = Caller("ann", weight=3.0)
    async with calls() as made:
        for _ in range(40):
            await made.begin(heavy, 128)
            await made.begin(BOB, 128)
        for _ in range(40):
            await made.end(made.served[0])
        assert Counter(made.order[:40]) == {"ann": 30, "bob": 10}


async def test_tokens_are_shared_and_not_calls() -> None:
    async with calls() as made:
        for _ in range(10):
            await made.begin(ANN, 2000)
        for _ in range(100):
            await made.begin(BOB, 200)
        for _ in range(55):
            await made.end(made.served[0])
        served = Counter(made.order[:55])
        assert abs(served["ann"] * 2000 - served["bob"] * 200) <= 2000 + QUANTUM


async def test_who_uses_more_than_estimated_waits_longer_afterwards() -> None:
    async with calls() as made:
        for _ in range(30):
            await made.begin(ANN, 100, tokens=300)
            await made.begin(BOB, 100, tokens=100)
        for _ in range(36):
            await made.end(made.served[0])
        assert made.order[:36].count("bob") == pytest.approx(27, abs=3)


async def test_the_next_of_several_callers_is_seen_in_what_is_ahead() -> None:
    async with calls() as made:
        await made.begin(ANN)
        first = await made.begin(ANN)
        second = await made.begin(ANN)
        other = await made.begin(BOB)
        assert [made.tickets[number].ahead for number in (first, second, other)] == [1, 2, 1]
        await made.cancel(other)
        assert [made.tickets[number].ahead for number in (first, second, other)] == [0, 1, 0]
        await made.end(0)
        assert made.tickets[first].ahead == 0


async def test_calls_at_once_are_limited_and_leave_the_other_places_free() -> None:
    two = Caller("ann", quota=Quota(at_once=2))
    async with calls(places=4) as made:
        numbers = [await made.begin(two) for _ in range(5)]
        assert made.served == numbers[:2]
        other = [await made.begin(BOB) for _ in range(2)]
        assert made.served == [*numbers[:2], *other]
        await made.end(other[0])
        assert made.served == [*numbers[:2], other[1]]
        await made.end(numbers[0])
        assert made.served == [*numbers[1:3], other[1]]


async def test_a_full_queue_refuses_with_the_time_to_wait() -> None:
    async with calls(places=1, max_waiting=3, max_waiting_each=2) as made:
        for _ in range(3):
            await made.begin(ANN)
        with pytest.raises(Refusal, match="2 calls of this key are waiting") as own:
            made.queue.admit(ANN)
        assert own.value.status == 429
        await made.begin(BOB)
        with (
            pytest.raises(Refusal, match="the queue is full with 3 calls") as full,
            made.queue.place(Caller("cleo"), 100),
        ):
            pass
        assert full.value.status == 503
        assert full.value.retry_after is not None
        assert full.value.retry_after >= 1
        await made.end(0)
        made.queue.admit(BOB)


async def test_requests_a_minute_are_counted_exactly() -> None:
    now = 0.0
    queue = FairQueue(1, clock=lambda: now)
    caller = Caller("ann", quota=Quota(requests_per_minute=3))
    for second in (0.0, 10.0, 20.0):
        now = second
        queue.admit(caller)
    now = 59.5
    with pytest.raises(Refusal, match="3 requests a minute") as refused:
        queue.admit(caller)
    assert refused.value.status == 429
    assert refused.value.retry_after == 1
    queue.admit(BOB)
    now = 60.0
    queue.admit(caller)
    with pytest.raises(Refusal):
        queue.admit(caller)  # those of the seconds 10 and 20 and of this one
    now = 70.0
    queue.admit(caller)


async def test_tokens_a_day_are_reserved_while_a_call_waits_and_settled_after_it() -> None:
    day = 86_400.0
    now = day - 100
    queue = FairQueue(1, now=lambda: now)
    caller = Caller("ann", quota=Quota(tokens_per_day=1000))
    with queue.place(caller, 600) as ticket:
        assert queue.tokens_today(caller) == 600
        with pytest.raises(Refusal, match="1,000 tokens a day") as refused, queue.place(caller, 600):
            pass
        assert refused.value.retry_after == 100
        ticket.tokens = 200
    assert queue.tokens_today(caller) == 200
    with queue.place(caller, 800) as ticket:
        with pytest.raises(Refusal):
            queue.admit(caller)
        ticket.tokens = 800
    with pytest.raises(Refusal):
        queue.admit(caller)
    now = day
    queue.admit(caller)
    queue.set_tokens_today(caller, 1000)
    with pytest.raises(Refusal):
        queue.admit(caller)


async def test_a_quota_may_change_while_calls_wait() -> None:
    async with calls(places=2) as made:
        await made.begin(Caller("ann", quota=Quota(at_once=1)))
        second = await made.begin(Caller("ann", quota=Quota(at_once=1)))
        assert second not in made.served
        third = await made.begin(Caller("ann", quota=Quota(at_once=2)))
        assert made.served == [0, second]
        await made.end(0)
        assert made.served == [second, third]


async def test_a_cancelled_call_frees_its_place_at_once() -> None:
    async with calls() as made:
        held = await made.begin(ANN)
        waiting = await made.begin(ANN)
        last = await made.begin(BOB)
        await made.cancel(waiting)
        assert made.queue.waiting == 1
        await made.cancel(held)
        assert made.served == [last]


async def test_a_call_that_is_cancelled_just_as_its_turn_comes_gives_the_place_on() -> None:
    async with calls() as made:
        held = await made.begin(ANN)
        unlucky = await made.begin(ANN)
        last = await made.begin(ANN)
        made.held[held].set()  # in the next pass of the loop it leaves and the place goes to the second
        made.tasks[unlucky].cancel()
        await settled()
        assert made.served == [last]
        assert made.tasks[unlucky].cancelled()


async def test_a_call_that_is_cancelled_on_its_way_to_the_queue_of_another_process_frees_its_place() -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'colm-vl[ray]'")
    state, arrived, left = State(Settings(), None), asyncio.Event(), asyncio.Event()

    async def enter(*sent: Any) -> Any:
        await arrived.wait()
        return await state.enter(*sent)

    async def leave(*sent: Any) -> None:
        await state.leave(*sent)
        left.set()

    def remote(method: Any) -> Any:
        """Cancelling the wait for a reply does not cancel the call."""
        return SimpleNamespace(remote=lambda *sent: asyncio.shield(asyncio.ensure_future(method(*sent))))

    async def ask() -> None:
        async with RemotePlaces(SimpleNamespace(enter=remote(enter), leave=remote(leave))).place(ANN, 1):
            raise AssertionError("it was cancelled before")

    asking = asyncio.create_task(ask())
    await asyncio.sleep(0)
    asking.cancel()
    with suppress(asyncio.CancelledError):
        await asking
    assert not left.is_set()
    arrived.set()
    await asyncio.wait_for(left.wait(), 5)
    assert (await state.beat("replica")).serving == 0


async def test_a_thousand_cancelled_calls_leave_no_place_taken() -> None:
    async with calls(places=4, max_waiting=2000, max_waiting_each=2000) as made:
        for number in range(1000):
            await made.begin(ANN if number % 3 else BOB)
        for number in range(1000):
            made.tasks[number].cancel()
        await asyncio.wait(made.tasks.values())
        assert (made.queue.serving, made.queue.waiting) == (0, 0)
        assert await made.begin(BOB) in made.served


Step = tuple[str, int, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "begin", "end", "cancel", "cancel_soon"]), st.integers(0, 2), st.integers(1, 2000)
    ),
    max_size=60,
)
WEIGHTS = st.tuples(*[st.sampled_from([0.1, 0.5, 1.0, 2.0, 10.0])] * 3)
LIMITS = st.tuples(*[st.sampled_from([None, 1, 2])] * 3)


@settings(max_examples=150, deadline=None)
@given(STEPS, WEIGHTS, LIMITS, st.integers(1, 4))
def test_places_are_never_left_free_nor_lost(
    steps: list[Step], weights: tuple[float, ...], limits: tuple[int | None, ...], places: int
) -> None:
    async def play() -> None:
        callers = [Caller(f"{i}", weights[i], Quota(at_once=limits[i])) for i in range(3)]
        async with calls(places) as made:
            for what, who, number in steps:
                alive = [key for key in made.tasks if made.running(key)]
                if what == "begin":
                    await made.begin(callers[who], number, tokens=number * 2 if number % 2 else None)
                elif what == "end" and made.served:
                    await made.end(made.served[number % len(made.served)])
                elif what == "cancel" and alive:
                    await made.cancel(alive[number % len(alive)])
                elif what == "cancel_soon" and alive:
                    made.tasks[alive[number % len(alive)]].cancel()
                    continue
                await settled()
                at_once = Counter(made.callers[key].name for key in made.served)
                assert made.queue.serving == len(made.served) <= places
                waiting = [key for key in made.tasks if made.running(key) and key not in made.served]
                assert made.queue.waiting == len(waiting)
                for caller in callers:
                    most = caller.quota.at_once
                    assert most is None or at_once[caller.name] <= most
                    may_begin = most is None or at_once[caller.name] < most
                    idle = made.queue.serving < places and may_begin
                    assert not (idle and any(made.callers[key] is caller for key in waiting))

    asyncio.run(play())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 3000), min_size=30, max_size=30), min_size=2, max_size=4),
    st.lists(st.sampled_from([0.5, 1.0, 2.0, 5.0]), min_size=4, max_size=4),
)
def test_callers_that_wait_all_the_time_get_tokens_by_weight(costs: list[list[int]], weights: list[float]) -> None:
    """The bound of Shreedhar and Varghese (Theorem 1), with the largest call in place of the largest packet."""

    async def play() -> None:
        async with calls(max_waiting_each=100) as made:
            for index, listed in enumerate(costs):
                for cost in listed:
                    await made.begin(Caller(f"{index}", weights[index]), cost)
            used: defaultdict[str, float] = defaultdict(float)
            largest = max(max(listed) for listed in costs)
            left = [len(listed) for listed in costs]
            while min(left) > 0:
                number = made.served[0]
                index = int(made.callers[number].name)
                used[f"{index}"] += made.tickets[number].cost / weights[index]
                left[index] -= 1
                await made.end(number)
                shares = [used[f"{i}"] for i in range(len(costs))]
                slowest = min(weights[: len(costs)])
                assert max(shares) - min(shares) <= QUANTUM + 3 * largest / slowest

    asyncio.run(play())
