"""Decides which calls of a batch can be made now, and which are postponed to another pass over the questions.

If the team has more local models than fit into memory, a batch makes several passes over its questions, each with only
the calls of the loaded models. A batch that is being stopped makes no further calls.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import NamedTuple, get_args

from colm_vl.backend_pool import BackendPool
from colm_vl.batch.stats import Account
from colm_vl.store import CallKey, CallStore, Claim
from colm_vl.team import Member
from colm_vl.types import Stage

_STAGES: Sequence[Stage] = get_args(Stage)


class Postponed(Exception):
    """Raised if a question cannot continue in this pass."""


class _Wanted(NamedTuple):
    """A place in the protocol at which a call was postponed. Earlier places sort first."""

    round: int
    stage: int
    member: str


class ModelSchedule:
    """Decides which members can be called. Those in `staged` take turns, `places` at a time; others can always be
    called."""

    def __init__(self, staged: Sequence[Member] = (), places: int = 0) -> None:
        self._staged = tuple(member.name for member in staged)
        self._places = places
        self._turn = frozenset(self._staged[:places])
        self._wanted: Counter[_Wanted] = Counter()
        self._closed = False

    @property
    def staged(self) -> bool:
        return bool(self._staged)

    def admits(self, member: Member) -> bool:
        return not self._closed and (member.name in self._turn or member.name not in self._staged)

    def postpone(self, key: CallKey) -> None:
        self._wanted[_Wanted(key.round, _STAGES.index(key.stage), key.member.name)] += 1

    def close(self) -> None:
        self._closed = True

    async def next_turn(self, pool: BackendPool) -> bool:
        """Give the turn to the members wanted at the earliest place in the protocol. False if no calls were postponed.

        No remaining call can lead to the earliest place, so each model is loaded at most once for it. Loaded models
        stay loaded if there is room.
        """
        wanted, self._wanted = self._wanted, Counter()
        if not wanted or self._closed:
            return False
        loaded = pool.loaded
        ranked = sorted(wanted, key=lambda want: (want.round, want.stage, want.member not in loaded, -wanted[want]))
        names = dict.fromkeys([*(want.member for want in ranked), *sorted(loaded)])
        self._turn = frozenset(list(names)[: self._places])
        await pool.keep(self._turn)
        return True


class StrategyCalls:
    """The `CallStore` of one strategy and one question. It postpones calls to members whose turn it is not, and counts
    calls in `account`. `known` is the store of the question, which in turn uses that of the batch.
    """

    def __init__(self, strategy: str, known: CallStore, schedule: ModelSchedule, account: Account) -> None:
        self._strategy = strategy
        self._known = known
        self._schedule = schedule
        self._account = account
        self._clock = account.clock(strategy)
        self._under_way = 0
        self._over = asyncio.Event()

    @asynccontextmanager
    async def claim(self, key: CallKey) -> AsyncGenerator[Claim, None]:
        now = self._clock.now()
        with self._counted():
            async with self._known.claim(key) as claim:
                if claim.outcome is not None:
                    self._clock.start(key, now)
                    self._account.found(key, claim.outcome)
                    claim.paid |= self._account.payer(key) == self._strategy
                    yield claim
                    return
                if self._schedule.admits(key.member):
                    self._clock.start(key, now)
                    yield claim
                    if claim.outcome is not None:
                        self._account.made(key, claim.outcome, self._strategy)
                    return
        self._schedule.postpone(key)
        # Raising cancels the other members of this stage. All of them have been started: let them begin their calls,
        # and wait until these have ended.
        await asyncio.sleep(0)
        while self._under_way:
            self._over.clear()
            await self._over.wait()
        raise Postponed

    @contextmanager
    def _counted(self) -> Generator[None, None, None]:
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
            self._over.set()
