"""Which calls of a batch may be made now, and which have to wait for another pass over the questions.

Where fewer local models fit into memory than the team has, a batch goes over its questions several times, each time
making only the calls of the models that are loaded; and a batch that is to stop makes no further ones.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, get_args

from colm_vl.backends.base import Generation
from colm_vl.batch.sharing import Shared
from colm_vl.batch.tally import Account
from colm_vl.pool import Pool
from colm_vl.run import CallKey, CallStore
from colm_vl.team import Member
from colm_vl.types import Failure, Stage, Trace

_STAGES: Sequence[Stage] = get_args(Stage)


class Postponed(Exception):
    """The question cannot go on in this pass."""


class _Wanted(NamedTuple):
    """A place in the protocol at which a member was needed and not admitted. Earlier places sort first."""

    round: int
    stage: int
    member: str


class Admission:
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

    async def next_turn(self, pool: Pool) -> bool:
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


class _Place(NamedTuple):
    """Where in a trace a call stands."""

    member: str
    stage: Stage
    round: int
    sample: int


class Calls:
    """The `CallStore` of one strategy at one question: what is known, what may be asked, and the account of both.

    `known` are the calls of the question, `shared`, behind them, those of the batch. To be closed when the strategy is
    over, however it ended.
    """

    def __init__(self, strategy: str, known: CallStore, shared: Shared, admission: Admission, account: Account) -> None:
        self._strategy = strategy
        self._known = known
        self._shared = shared
        self._admission = admission
        self._account = account
        self._paid: dict[_Place, float] = {}
        self._under_way: set[str] = set()
        self._over = asyncio.Event()

    async def get(self, key: CallKey) -> Generation | Failure | None:
        known = await self._known.get(key)
        if known is not None:
            self._account.found(key, known)
            if isinstance(known, Generation) and self._account.payer(key) == self._strategy:
                self._paid[_Place(key.member.name, key.stage, key.round, key.sample)] = known.seconds
            return known
        if self._admission.admits(key.member):
            # No store lets others run between its look at the shared calls and here: nobody else has begun this one.
            self._shared.begin(key)
            self._under_way.add(key.digest)
            return None
        self._admission.postpone(key)
        # The other members of this stage, all of whom have been started, get as far as their calls; then those calls
        # come to their end, since raising cancels them.
        await asyncio.sleep(0)
        while self._under_way:
            self._over.clear()
            await self._over.wait()
        raise Postponed

    async def put(self, key: CallKey, outcome: Generation | Failure) -> None:
        self._account.made(key, outcome, self._strategy)
        await self._known.put(key, outcome)
        self._under_way.remove(key.digest)
        self._over.set()

    def charged(self, trace: Trace) -> Trace:
        """The strategy's trace. What it made itself in an earlier pass of this run, and found again, is not reused and
        took the seconds that it took then."""
        if not self._paid:
            return trace
        calls = []
        for call in trace.calls:
            seconds = self._paid.get(_Place(call.member, call.stage, call.round, call.sample))
            calls.append(call if seconds is None else replace(call, reused=False, seconds=seconds))
        return replace(trace, calls=tuple(calls))

    def close(self) -> None:
        """Leave calls that were cancelled to others who wait for them."""
        self._shared.abandon(self._under_way)
        self._under_way.clear()


class WithFailures:
    """A `CallStore` that also remembers failures, so that the passes of one batch do not repeat them."""

    def __init__(self, behind: CallStore) -> None:
        self._behind = behind
        self._failures: dict[str, Failure] = {}

    async def get(self, key: CallKey) -> Generation | Failure | None:
        return self._failures.get(key.digest) or await self._behind.get(key)

    async def put(self, key: CallKey, outcome: Generation | Failure) -> None:
        if isinstance(outcome, Failure):
            self._failures[key.digest] = outcome
        await self._behind.put(key, outcome)
