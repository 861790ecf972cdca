"""The state of one question while it is answered: its calls, its events and its trace.

Stages decide which member gets which messages. `Run.call` applies timeouts, turns errors into failures, uses the call
store and records usage, so that stages and strategies need not do so themselves.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, Literal, TypeVar

from colm_vl.backend_pool import BackendPool
from colm_vl.backends.base import Backend, Generation, Message, QueuePlace, Request, Sampling
from colm_vl.errors import BadReply, ColmError, TimedOut
from colm_vl.events import Delta, Event, Note, Queued, StageStarted
from colm_vl.prompts import JsonObject, LabelledLines, ReplyFormat, StreamedFields, is_complete, without_thinking
from colm_vl.store import CallKey, CallStore, CallsUnderWay
from colm_vl.team import Member, Policy, Team
from colm_vl.types import (
    Call,
    ClientReply,
    Decision,
    Draft,
    Failure,
    Guidance,
    ImageInfo,
    Late,
    Query,
    Refinement,
    Selection,
    Sent,
    Settlement,
    Stage,
    Trace,
    Verdict,
)

logger = logging.getLogger(__name__)

_ANSWERING = frozenset[Stage]({"draft", "refine", "verdict"})

_E = TypeVar("_E")


Build = Callable[[ReplyFormat], tuple[Message, ...]]
Asks = Literal["answer", "guidance"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """The prompt for a member. If the model does not support the `schema`, `plain` is sent instead."""

    messages: tuple[Message, ...]
    schema: Mapping[str, Any] | None = None
    plain: tuple[Message, ...] | None = None

    def turn(self, generation: Generation) -> Turn:
        messages = self.plain if generation.plain and self.plain else self.messages
        return Turn(messages, generation)


@dataclass(frozen=True, slots=True)
class Turn:
    """A client's conversation up to and including its latest reply."""

    messages: tuple[Message, ...]
    generation: Generation


class Run:
    """The state of one question, passed to strategies and stages. It is discarded once the question is answered."""

    def __init__(
        self,
        query: Query,
        team: Team,
        pool: BackendPool,
        *,
        emit: Callable[[Event], None] | None = None,
        store: CallStore | None = None,
    ) -> None:
        self.query = query
        self.team = team
        self.pool = pool
        self.turns: dict[str, Turn] = {}
        self.fallback = ""
        self.prefetching: asyncio.Task[Generation | None] | None = None
        self._emit = emit
        self._store = CallsUnderWay() if store is None else store
        self._events: list[Event] = []
        self._begun = time.monotonic()

    @property
    def policy(self) -> Policy:
        return self.team.policy

    @property
    def asker(self) -> Member:
        """See `Team.asker`."""
        return self.team.asker

    def prompt(self, member: Member, build: Build, *, asks: Asks, after: Turn | None = None) -> Prompt:
        """The prompt that `build` makes for the member's reply format. A conversation that began without a schema
        continues without one."""
        profile, wanted = self.team.prompts_of(member), self.team.reply_format_of(member)
        lines = LabelledLines(profile, self.policy.reason)
        if wanted == "lines" or (after and after.generation.plain):
            return Prompt(build(lines))
        as_json = JsonObject(profile, self.policy.reason)
        schema = as_json.guidance_schema() if asks == "guidance" else as_json.answer_schema(self.query)
        return Prompt(build(as_json), schema, build(lines) if wanted == "auto" else None)

    def reply_format(self, member: Member) -> ReplyFormat:
        """The format for reading this member's replies if they are not JSON."""
        return LabelledLines(self.team.prompts_of(member))

    @property
    def images_hidden(self) -> bool:
        """Whether the question has pictures that the server may not see."""
        return self.policy.share == "captions" and bool(self.query.images)

    async def server_query(self) -> Query:
        """The question as the server may see it: with full pictures, thumbnails, or none."""
        images, most = self.query.images, self.policy.thumbnail_pixels
        if self.policy.share == "captions":
            return replace(self.query, images=())
        if self.policy.share == "thumbnails" and images:
            small = await asyncio.to_thread(lambda: tuple(image.thumbnail(most) for image in images))
            return replace(self.query, images=small)
        return self.query

    def record(self, event: Event) -> None:
        """Add an event to the trace and pass it to the listener, if there is one."""
        self._events.append(event)
        if self._emit:
            self._emit(event)

    def begin(self, stage: Stage, members: Sequence[str], round: int = 0) -> None:
        self.record(StageStarted(stage, tuple(members), round))

    def fall_back(self, strategy: str, reason: str) -> None:
        self.fallback = strategy
        self.record(Note(f"{reason}; falling back to {strategy}"))

    async def call(
        self,
        member: Member,
        stage: Stage,
        prompt: Prompt,
        *,
        round: int = 0,
        sample: int = 0,
        continues: Generation | None = None,
        sampling: Sampling | None = None,
    ) -> Generation | Failure:
        """Call one member. Errors of a model or an endpoint are not raised; they are recorded and returned as a
        `Failure`."""
        sampling = sampling or self.policy.sampling_for(stage)
        key = CallKey(member, stage, round, sample, prompt.messages, sampling, prompt.schema, prompt.plain)
        started = time.monotonic() - self._begun
        async with self._store.claim(key) as claim:
            reused = claim.outcome is not None and not claim.paid
            if claim.outcome is None:
                letters = self.query.letters if stage in _ANSWERING else ()
                timeout = self.policy.timeout(stage)
                request = Request(
                    prompt.messages, sampling, continues, timeout, prompt.schema, prompt.plain, letters, stage
                )
                await claim.settle(await self._ask(key, request))
        outcome = claim.outcome
        assert outcome is not None
        if isinstance(outcome, Failure):
            took = 0.0 if reused else time.monotonic() - self._begun - started
            self.record(replace(outcome, started=started, seconds=took))
        else:
            seconds = 0.0 if reused else outcome.seconds if claim.paid else time.monotonic() - self._begun - started
            usage, sent, attempts = outcome.usage, outcome.sent, outcome.attempts
            timing = outcome.timing
            call = Call(member.name, stage, round, started, seconds, usage, sent, attempts, reused, sample, timing)
            self.record(call)
            whole = outcome.plain or is_complete(without_thinking(outcome.text))
            if prompt.schema and outcome.finish_reason == "length" and not whole:
                cut = f"cut off at {sampling.max_tokens} tokens, and read as far as it goes"
                self.record(Note(f"{member.name}: its reply was {cut}"))
        return outcome

    async def prefetch(self, member: Member, prompt: Prompt) -> Generation | None:
        """Let a member read the beginning of a later prompt, to fill its prefix cache. Nothing is stored, and a failure
        is not recorded: the later call will fail, too.

        Does nothing if local models take turns in memory: a batch would repeat it in each of its passes.
        """
        if self.pool.takes_turns(self.team.members, self.policy.max_loaded):
            return None
        sampling, timeout = Sampling(max_tokens=1), self.policy.timeout("guide")
        request = Request(prompt.messages, sampling, None, timeout, prompt.schema, prompt.plain, stage="prefetch")
        started = time.monotonic() - self._begun
        try:
            async with asyncio.timeout(timeout), self.pool.use(member) as backend:
                generation = await backend.generate(request)
        except asyncio.CancelledError:
            most = member.options.max_pixels
            pixels = sum(min(image.pixels, most or image.pixels) for image in request.images)
            sent, seconds = Sent(0, len(request.images), pixels), time.monotonic() - self._begun - started
            self.record(Call(member.name, "prefetch", 0, started, seconds, sent=sent))
            self.record(Note(f"{member.name}: prefetch stopped, since guidance is not needed; its tokens are unknown"))
            raise
        except (ColmError, TimeoutError) as error:
            logger.debug("%s: prefetch: %s", member.name, error)
            return None
        except Exception:  # a bug in one backend must not stop the question
            logger.exception("bug in the backend of %s, in a prefetch", member.name)
            return None
        seconds = time.monotonic() - self._begun - started
        usage, sent, attempts = generation.usage, generation.sent, generation.attempts
        timing = generation.timing
        self.record(Call(member.name, "prefetch", 0, started, seconds, usage, sent, attempts, timing=timing))
        return generation

    async def _ask(self, key: CallKey, request: Request) -> Generation | Failure:
        member, stage = key.member, key.stage
        limit = asyncio.timeout(None if self.pool.keeps_time(member) else request.timeout)
        try:
            async with limit:
                generation = await self._generate(key, request)
            if not generation.text.strip():
                raise BadReply(f"{member.name}: the reply is empty")
            return generation
        except TimeoutError:
            error: ColmError = _late(key, request) if limit.expired() else TimedOut(f"{member.name}: timed out")
        except TimedOut as raised:
            error = raised if raised.limit is None else _late(key, request)
        except ColmError as raised:
            error = raised
        except (Exception, asyncio.CancelledError) as raised:  # a bug in one backend must not stop the other members
            if isinstance(raised, asyncio.CancelledError) and _is_cancelled():
                raise
            logger.exception("bug in the backend of %s", member.name)
            error = ColmError(
                f"{member.name}: unexpected {type(raised).__name__}", hint="this is a bug: please report the traceback"
            )
        return Failure(member.name, stage, error.kind, member.shown(str(error)), member.shown(error.hint), key.round)

    async def _generate(self, key: CallKey, request: Request) -> Generation:
        asked = time.monotonic()
        async with self.pool.use(key.member) as backend:
            waited = time.monotonic() - asked
            generation = await self._answer(key, request, backend)
        return replace(generation, timing=generation.timing.after(waited)) if self.pool.limited else generation

    async def _answer(self, key: CallKey, request: Request, backend: Backend) -> Generation:
        """The reply of one backend. If somebody listens, its pieces are passed on as they arrive."""
        member = key.member
        if self._emit is None:
            return await backend.generate(request)
        generation: Generation | None = None
        shown = StreamedFields() if request.schema else None
        async for piece in backend.stream(request):
            if isinstance(piece, QueuePlace):
                self._emit(Queued(key.stage, member.name, piece.ahead, key.round, key.sample))
                continue
            if isinstance(piece, Generation):
                generation, text = piece, shown.flush() if shown else ""
            else:
                text = shown.push(piece) if shown else piece
            if text:
                self._emit(Delta(key.stage, member.name, text, key.round, key.sample))
        if generation is None:
            raise BadReply(f"{member.name}: the reply ended before it was complete")
        return generation

    def trace(self) -> Trace:
        """A record of everything that has happened so far."""
        query = self.query
        kept = _Kept(self._events)
        return Trace(
            question=query.question,
            strategy=self.policy.strategy,
            id=query.id,
            choices=query.choices,
            images=tuple(
                ImageInfo(image.digest, image.width, image.height, image.source, image.note, image.file_digest)
                for image in query.images
            ),
            members=self.team.infos,
            asker=self.policy.asker or "",
            selection=next(iter(kept.of(Selection)), None),
            drafts=tuple(kept.of(Draft)),
            guidance=tuple(kept.of(Guidance)),
            refinements=tuple(kept.of(Refinement)),
            verdict=next(reversed(kept.of(Verdict)), None),
            gates=tuple(kept.of(Decision)),
            failures=tuple(kept.of(Failure)),
            late=tuple(kept.of(Late)),
            settlement=next(reversed(kept.of(Settlement)), None),
            fallback=self.fallback,
            calls=tuple(sorted(kept.of(Call), key=attrgetter("started"))),
            notes=tuple([note.text for note in kept.of(Note)]),
            seconds=time.monotonic() - self._begun,
            metadata=dict(query.metadata),
            history=query.history,
        )


class _Kept:
    """Events by their kind, in their order."""

    def __init__(self, events: Iterable[Event]) -> None:
        self._by_kind: defaultdict[type, list[Any]] = defaultdict(list)
        for event in events:
            self._by_kind[type(event)].append(event)

    def of(self, kind: type[_E]) -> Sequence[_E]:
        return self._by_kind.get(kind, [])


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _late(key: CallKey, request: Request) -> TimedOut:
    return TimedOut(
        f"{key.member.name}: no reply within {request.timeout or 0:g} s",
        hint=f"raise policy.timeouts.{key.stage} or ask for less",
    )


Replies = Mapping[str, ClientReply]
"""Each client's latest reply, by name, in the team's order. Clients that failed are left out."""

__all__ = ["Replies", "Run", "Turn"]
