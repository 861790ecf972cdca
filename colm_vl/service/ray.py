"""The service on Ray Serve, with replicas.

    serve run colm_vl.service.ray:app team=team.toml keys=keys.toml replicas=3

Each replica is the whole HTTP application, with a team of its own. One further process keeps what they have in common:
the places at the server with their fair queue, the quotas of keys, the uploaded pictures and the ledger.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from colm_vl._tables import Table, validate
from colm_vl.errors import ColmError, ConfigError, InputError
from colm_vl.extras import require
from colm_vl.service.accounting import Bill
from colm_vl.service.app import create_app
from colm_vl.service.context import Service
from colm_vl.service.keys import KeyRing
from colm_vl.service.ledger import Ledger, day_begun
from colm_vl.service.pictures import MissingPicture, PictureStore, PictureTooLarge
from colm_vl.service.queue import Caller, FairQueue, Refusal, Ticket
from colm_vl.service.settings import Settings
from colm_vl.service.shared import Place, Shared
from colm_vl.team import Team
from processors.errors import ImageError
from processors.images import Image

_BEAT = 1.0
"""Seconds between two signs of life of a replica."""
_DEAD_AFTER = 10.0
"""Seconds without a sign of life after which the places of a replica are given back."""
_RETRY = 2.0


class Arguments(Table):
    """The arguments of `serve run`, and `args` in a config file of Ray Serve."""

    team: Path | None = Field(default=None, description="the team file; the pocket team if not set")
    keys: Path | None = Field(default=None, description="the file of keys")
    config: Path | None = Field(default=None, description="a TOML file of limits, as for colm-vl serve --config")
    ledger: Path | None = Field(default=None, description="an SQLite file with one row for each request")
    anonymous: bool = Field(default=False, description="serve without keys: everybody who reaches Serve may ask")
    replicas: int = Field(default=1, ge=1, description="number of replicas")
    cpus: float = Field(default=1.0, ge=0, description="CPUs of each replica")
    gpus: float = Field(default=0.0, ge=0, description="GPUs of each replica, if its team has local models")
    requests: int = Field(default=512, ge=1, description="requests that a replica answers at the same time")


def app(args: dict[str, Any]) -> Any:
    """The application, for `serve run colm_vl.service.ray:app`. Raises `ConfigError`."""
    arguments = validate(Arguments, args, "arguments")
    if arguments.keys is None and not arguments.anonymous:
        raise ConfigError("there are no keys", hint="keys=keys.toml, or anonymous=true on a machine that is private")
    serve = require("ray.serve", "ray-serve")
    settings = Settings.load(arguments.config) if arguments.config else Settings()
    team = Team.load(arguments.team) if arguments.team else Team.pocket()
    state = serve.deployment(State).options(
        name="state",
        num_replicas=1,
        max_ongoing_requests=100_000,
        ray_actor_options={"num_cpus": 0},
        logging_config={"enable_access_log": False},
    )
    # Without an application here: each replica makes its own, in `__serve_build_asgi_app__`.
    replica = serve.deployment(serve.ingress()(Replica)).options(
        name="service",
        num_replicas=arguments.replicas,
        max_ongoing_requests=arguments.requests,
        graceful_shutdown_timeout_s=settings.grace,
        ray_actor_options={"num_cpus": arguments.cpus, "num_gpus": arguments.gpus},
    )
    return replica.bind(team, settings, arguments.keys, state.bind(settings, arguments.ledger))


class Replica:
    """Answers requests."""

    def __init__(self, team: Team, settings: Settings, keys: Path | None, state: Any) -> None:
        self._places = RemotePlaces(state)
        shared = Shared(self._places, RemotePictures(state, settings), RemoteLedger(state))
        self._service = Service(team, settings=settings, keys=KeyRing(keys) if keys else None, shared=shared)
        self._beating: asyncio.Task[None] | None = None

    def __serve_build_asgi_app__(self) -> Any:
        return create_app(self._service)

    async def check_health(self) -> None:
        if self._beating is None:
            self._beating = asyncio.create_task(self._places.keep_beating())


# --- what the replicas have in common ---


@dataclass(frozen=True, slots=True)
class Refused:
    """A `Refusal`, as it travels between processes."""

    message: str
    hint: str
    status: int
    retry_after: float

    def error(self) -> Refusal:
        return Refusal(self.message, hint=self.hint, status=self.status, retry_after=self.retry_after)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a call is in the queue. `begun`: it has its place, after `waited` seconds. `known` is False if the process
    that keeps the queue was started again meanwhile."""

    begun: bool
    waited: float
    ahead: int
    known: bool = True


@dataclass(frozen=True, slots=True)
class QueueState:
    waiting: int
    serving: int
    places: int
    retry_after: float


@dataclass(slots=True)
class _Held:
    ticket: Ticket
    replica: str
    stack: ExitStack


class State:
    """Keeps what the replicas have in common. There is one of it."""

    def __init__(self, settings: Settings, ledger: Path | None) -> None:
        limits = settings.queue
        self._queue = FairQueue(limits.places, max_waiting=limits.waiting, max_waiting_each=limits.waiting_each)
        self._pictures = PictureStore(settings.picture_limits)
        self._ledger = Ledger(ledger) if ledger else None
        self._used = dict(self._ledger.server_tokens_since(day_begun(time.time()))) if self._ledger else {}
        self._held: dict[str, _Held] = {}
        self._seen: dict[str, float] = {}

    async def admit(self, caller: Caller) -> Refused | None:
        self._continue_count(caller)
        try:
            self._queue.admit(caller)
        except Refusal as error:
            return _refused(error)
        return None

    async def enter(self, replica: str, name: str, caller: Caller, cost: int) -> Standing | Refused:
        self._give_back_of_dead()
        self._seen[replica] = time.monotonic()
        self._continue_count(caller)
        stack = ExitStack()
        try:
            ticket = stack.enter_context(self._queue.place(caller, cost))
        except Refusal as error:
            return _refused(error)
        self._held[name] = _Held(ticket, replica, stack)
        return _standing(ticket)

    async def turn(self, name: str, within: float | None) -> Standing:
        held = self._held.get(name)
        if held is None:
            return Standing(begun=False, waited=0.0, ahead=0, known=False)
        await held.ticket.turn(within)
        return _standing(held.ticket)

    async def leave(self, name: str, tokens: int | None) -> None:
        held = self._held.pop(name, None)
        if held is not None:
            held.ticket.tokens = tokens
            held.stack.close()

    async def beat(self, replica: str) -> QueueState:
        self._seen[replica] = time.monotonic()
        self._give_back_of_dead()
        queue = self._queue
        return QueueState(queue.waiting, queue.serving, queue.places, queue.retry_after)

    async def has_picture(self, owner: str, digest: str) -> bool:
        return self._pictures.has(owner, digest)

    async def put_picture(self, owner: str, digest: str, data: bytes) -> tuple[str, str, str] | None:
        """The kind, message and hint of what is wrong with it."""
        try:
            await self._pictures.put(owner, digest, data)
        except ColmError as error:
            return error.kind, str(error), error.hint
        return None

    async def picture_files(self, owner: str, digests: Sequence[str], wanted: Sequence[str]) -> list[bytes | None]:
        """The files of the pictures `wanted`, None for one that is not here. Counts as a use of all of `digests`."""
        files = {digest: self._pictures.file(owner, digest) for digest in digests}
        return [files[digest] for digest in wanted]

    async def bill(self, bill: Bill) -> None:
        if self._ledger is not None:
            self._ledger.served(bill)

    def _continue_count(self, caller: Caller) -> None:
        """The tokens that the key used today before this process was started."""
        if (used := self._used.pop(caller.name, None)) is not None:
            self._queue.set_tokens_today(caller, used)

    def _give_back_of_dead(self) -> None:
        oldest = time.monotonic() - _DEAD_AFTER
        dead = {replica for replica, seen in self._seen.items() if seen < oldest}
        for replica in dead:
            del self._seen[replica]
        for name, held in list(self._held.items()):
            if held.replica in dead:
                del self._held[name]
                held.stack.close()


def _refused(error: Refusal) -> Refused:
    return Refused(str(error), error.hint, error.status or 503, error.retry_after or _RETRY)


def _standing(ticket: Ticket) -> Standing:
    return Standing(ticket.begun is not None, ticket.waited, ticket.ahead)


# --- as a replica sees it ---


class RemotePlaces:
    """The places at the server, kept by `State`."""

    def __init__(self, state: Any) -> None:
        self._state = state
        self._replica = uuid.uuid4().hex
        self._known = QueueState(0, 0, 0, 1.0)

    @property
    def waiting(self) -> int:
        return self._known.waiting

    @property
    def serving(self) -> int:
        return self._known.serving

    @property
    def places(self) -> int:
        return self._known.places

    @property
    def retry_after(self) -> float:
        return self._known.retry_after

    async def keep_beating(self) -> None:
        while True:
            with suppress(Exception):  # it is being started again
                self._known = await self._state.beat.remote(self._replica)
            await asyncio.sleep(_BEAT)

    async def admit(self, caller: Caller) -> None:
        refused = await _asked(self._state.admit.remote(caller))
        if refused is not None:
            raise refused.error()

    @asynccontextmanager
    async def place(self, caller: Caller, cost: int) -> AsyncGenerator[Place, None]:
        place = _RemotePlace(self._state, self._replica, caller, cost)
        entering = asyncio.ensure_future(place.enter())
        try:
            await asyncio.shield(entering)
        except asyncio.CancelledError:
            # The place is taken although nobody waits for it. `leave` must not overtake `enter`.
            entering.add_done_callback(place.leave_after)
            raise
        try:
            yield place
        finally:
            place.leave()


@dataclass(slots=True)
class _RemotePlace:
    state: Any
    replica: str
    caller: Caller
    cost: int
    tokens: int | None = None
    name: str = field(default_factory=lambda: uuid.uuid4().hex)
    standing: Standing = Standing(begun=False, waited=0.0, ahead=0)

    @property
    def begun(self) -> float | None:
        return 0.0 if self.standing.begun else None

    @property
    def waited(self) -> float:
        return self.standing.waited

    @property
    def ahead(self) -> int:
        return self.standing.ahead

    async def enter(self) -> None:
        found = await _asked(self.state.enter.remote(self.replica, self.name, self.caller, self.cost))
        if isinstance(found, Refused):
            raise found.error()
        self.standing = found

    async def turn(self, within: float | None = None) -> None:
        self.standing = await _asked(self.state.turn.remote(self.name, within))
        if not self.standing.known:
            await self.enter()

    def leave(self) -> None:
        """Does not wait: a request that is cancelled must give its place back, too."""
        self.state.leave.remote(self.name, self.tokens)

    def leave_after(self, entering: asyncio.Future[None]) -> None:
        if not entering.cancelled():
            entering.exception()  # a refusal that nobody reads
        self.leave()


class RemotePictures:
    """Uploaded pictures, kept by `State`; each replica decodes them itself, and keeps some of them decoded."""

    def __init__(self, state: Any, settings: Settings) -> None:
        self._state = state
        self._decoded = PictureStore(settings.picture_limits)

    async def has(self, owner: str, digest: str) -> bool:
        found: bool = await _asked(self._state.has_picture.remote(owner, digest))
        return found

    async def put(self, owner: str, digest: str, data: bytes) -> None:
        problem = await _asked(self._state.put_picture.remote(owner, digest, data))
        if problem is not None:
            kind, message, hint = problem
            errors = {PictureTooLarge.kind: PictureTooLarge, InputError.kind: InputError}
            raise errors.get(kind, ImageError)(message, hint=hint)

    async def open(self, owner: str, digests: Sequence[str]) -> tuple[Image, ...]:
        lacking = [digest for digest in digests if not self._decoded.has(owner, digest)]
        # Also asks for those that are here, so that their use is noted where they are kept.
        files = await _asked(self._state.picture_files.remote(owner, list(digests), lacking))
        for digest, file in zip(lacking, files, strict=True):
            if file is None:
                raise MissingPicture(f"the picture {digest} is not here", hint="upload it and repeat the request")
            await self._decoded.put(owner, digest, file)
        return await self._decoded.open(owner, digests)


class RemoteLedger:
    def __init__(self, state: Any) -> None:
        self._state = state

    def served(self, bill: Bill) -> None:
        self._state.bill.remote(bill)


async def _asked(response: Any) -> Any:
    """Raises `Refusal` (503) if the process that keeps the state cannot be reached."""
    import ray

    try:
        return await response
    except ray.exceptions.RayTaskError:
        raise
    except ray.exceptions.RayError:
        raise Refusal("the queue is being started again", hint="try again", status=503, retry_after=_RETRY) from None
