"""Which calls of a batch may be made now, and which have to wait for another pass over the questions.

Where fewer local models fit into memory than the team has, a batch goes over its questions several times, each time
making only the calls of the models that are loaded; and a batch that is to stop makes no further ones.
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
    """The question cannot go on in this pass."""


class _Wanted(NamedTuple):
    """A place in the protocol at which a member was needed and not admitted. Earlier places sort first."""

    round: int
    stage: int
    member: str


class ModelSchedule:
    """Admits members. Those in `staged` take turns, `places` at a time; all others may always be called."""

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
        """Give the turn to those that are wanted at the earliest place in the protocol. False if nobody is.

        When a place is the earliest, nothing that is still to be done leads to it: so each model is loaded at most
        once for it. Whoever is loaded and not in the way stays.
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
    """The `CallStore` of one strategy at one question: what is known, what may be asked, and the account of both.

    `known` are the calls of the question and, behind them, those of the batch.
    """

    def __init__(self, strategy: str, known: CallStore, schedule: ModelSchedule, account: Account) -> None:
        self._strategy = strategy
        self._known = known
        self._schedule = schedule
        self._account = account
        self._under_way = 0
        self._over = asyncio.Event()

    @asynccontextmanager
    async def claim(self, key: CallKey) -> AsyncGenerator[Claim, None]:
        with self._counted():
            async with self._known.claim(key) as claim:
                if claim.outcome is not None:
                    self._account.found(key, claim.outcome)
                    claim.paid |= self._account.payer(key) == self._strategy
                    yield claim
                    return
                if self._schedule.admits(key.member):
                    yield claim
                    if claim.outcome is not None:
                        self._account.made(key, claim.outcome, self._strategy)
                    return
        self._schedule.postpone(key)
        # The other members of this stage, all of whom have been started, get as far as their calls; then those calls
        # come to their end, since raising cancels them.
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
