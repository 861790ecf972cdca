"""Checks the members of a team: whether they work, what they can do, how fast they are."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import PIL.Image
import PIL.ImageDraw

from colm_vl import prompts
from colm_vl.backend_pool import BackendPool
from colm_vl.backends.base import Backend, Capabilities, Generation, Memory, Message, QueuePlace, Request, Sampling
from colm_vl.errors import BadReply, ColmError, TimedOut, Unsupported
from colm_vl.guidance_protocol import VerdictRequest, as_messages
from colm_vl.guides import read_verdict
from colm_vl.prompts import JsonObject, LabelledLines, ReplyFormat, is_complete, without_thinking
from colm_vl.team import Member, Team
from colm_vl.types import Query, Stage
from processors.images import Image

logger = logging.getLogger(__name__)

_TOKENS = 256  # a reasoning model thinks first
_SIDE = 84  # pixels; supported by the processors of all families
_COLOURS = ("red", "blue")  # two, because one colour can be guessed


@dataclass(frozen=True, slots=True)
class Health:
    """What one member supports, or why it does not work. None: not known.

    `images` and `logprobs` are as in `backends.base.Capabilities`. `sees`: it names the colours of pictures. `formats`
    are the formats in which its replies can be read, the best one first. `first_token` is in seconds and `speed` in
    tokens per second, measured in one call after the model was loaded. `memory` is None for endpoints.
    """

    member: Member
    seconds: float
    images: int | None = None
    logprobs: bool | None = None
    detail: str = ""
    problem: str = ""
    hint: str = ""
    sees: bool | None = None
    formats: tuple[str, ...] | None = None
    first_token: float | None = None
    speed: float | None = None
    memory: Memory | None = None

    @property
    def works(self) -> bool:
        return not self.problem

    def to_dict(self) -> dict[str, Any]:
        """The result as plain JSON."""
        member, memory = self.member, self.memory
        return {
            "member": member.name,
            "role": member.role,
            "backend": member.backend,
            "model": member.label,
            "works": self.works,
            "images": self.images,
            "sees": self.sees,
            "formats": None if self.formats is None else list(self.formats),
            "logprobs": self.logprobs,
            "first_token_seconds": self.first_token,
            "tokens_per_second": self.speed,
            "weight_bytes": memory.weights if memory else None,
            "free_bytes": memory.free if memory else None,
            "seconds": self.seconds,
            "detail": self.detail,
            "problem": self.problem,
            "hint": self.hint,
        }


async def check_team(
    team: Team, pool: BackendPool, on_result: Callable[[Health], None] | None = None
) -> Sequence[Health]:
    """Ask every member, all at the same time. A member that fails does not stop the others.

    `on_result` is called with each member's result as soon as it is known. No member takes longer than the timeout of
    its stage, not counting the time that it waits until its model can be loaded.
    """
    # Before any model is loaded, because loaded weights reduce the free memory.
    memory = {member.name: await _memory(team, member, pool) for member in team.members}

    async def one(member: Member) -> Health:
        health = replace(await _check(team, member, pool), memory=memory[member.name])
        if on_result:
            on_result(health)
        return health

    return await asyncio.gather(*map(one, team.members))


async def _memory(team: Team, member: Member, pool: BackendPool) -> Memory | None:
    if not pool.counts_as_loaded(member):
        return None
    try:
        async with asyncio.timeout(team.policy.timeout(_stage(member))):
            return await asyncio.to_thread(member.options.memory)
    except Exception:  # a timeout or a bug of the backend; the member may work nevertheless
        logger.debug("no estimate of the memory of %s", member.name, exc_info=True)
        return None


async def _check(team: Team, member: Member, pool: BackendPool) -> Health:
    stage = _stage(member)
    limit = team.policy.timeout(stage)
    begun = time.monotonic()
    try:
        async with pool.use(member) as backend:
            begun = time.monotonic()
            async with asyncio.timeout(limit):
                found = await _Examination(team, member, backend).run()
        return replace(found, seconds=time.monotonic() - begun)
    except TimeoutError:
        error: ColmError = TimedOut(f"no reply within {limit:g} s", hint=f"raise policy.timeouts.{stage}")
    except ColmError as raised:
        error = raised
    except Exception as raised:  # a bug in one backend must not affect the other members
        logger.debug("unexpected error in %s", member.name, exc_info=True)
        error = ColmError(f"unexpected {type(raised).__name__}", hint="--debug shows the traceback")
    return Health(member, time.monotonic() - begun, problem=member.shown(str(error)), hint=member.shown(error.hint))


def _stage(member: Member) -> Stage:
    return "draft" if member.role == "client" else "guide"


@dataclass(frozen=True, slots=True)
class _Reply:
    """`first` and `last` are the seconds until the first piece and until the whole reply."""

    generation: Generation
    answer: str
    first: float
    last: float

    @property
    def speed(self) -> float | None:
        """Tokens per second after the first one, if the reply came in several pieces."""
        tokens = self.generation.usage.completion_tokens - 1
        return tokens / (self.last - self.first) if tokens > 0 and self.last - self.first > 0.001 else None

    def says(self, colour: str) -> bool:
        words = set(re.findall(r"\w+", (self.answer or self.generation.text).casefold()))
        return colour in words and not words & (set(_COLOURS) - {colour})


@dataclass(frozen=True, slots=True)
class _Examination:
    team: Team
    member: Member
    backend: Backend

    async def run(self) -> Health:
        can = await self.backend.capabilities()
        profile = self.team.prompts_of(self.member)
        pictures = [Query(profile.check_picture, (_circle(colour),)) for colour in _COLOURS]
        sums = [Query(profile.check_text)] * len(pictures)
        if can.images == 0:
            return await self._ask(can, sums)
        try:
            return await self._ask(can, pictures)
        except Unsupported:  # many endpoints do not report that their model takes text only
            detail = f"works without pictures; {can.detail}".rstrip("; ")
            return await self._ask(replace(can, images=0, detail=detail), sums)

    async def _ask(self, can: Capabilities, queries: Sequence[Query]) -> Health:
        """The calls are made one after the other. The last one without a schema is timed, because then the model is
        already loaded, and no grammar has to be compiled."""
        replies = [await self._stream(query) for query in queries]
        timed = replies[-1]
        sees = all(reply.says(colour) for reply, colour in zip(replies, _COLOURS, strict=True))
        return Health(
            self.member,
            seconds=timed.last,
            images=can.images,
            logprobs=can.logprobs if can.logprobs is not None else timed.generation.logprobs is not None,
            detail=can.detail,
            sees=sees if can.images != 0 else None,
            formats=await self._formats(queries[0], replies),
            first_token=timed.first,
            speed=timed.speed,
        )

    async def _formats(self, query: Query, replies: Sequence[_Reply]) -> tuple[str, ...] | None:
        if self.member.options.is_guide:  # the service reads its server's replies itself
            return None
        formats = ["json"] if await self._follows_schema(query) else []
        return (*formats, "lines") if all(reply.answer for reply in replies) else tuple(formats)

    async def _follows_schema(self, query: Query) -> bool:
        try:
            reply = await self._stream(query, schema=True)
        except ColmError as error:  # the member works: it has answered without a schema
            logger.debug("%s under a schema: %s", self.member.name, error)
            return False
        return (
            bool(reply.answer) and not reply.generation.plain and is_complete(without_thinking(reply.generation.text))
        )

    async def _stream(self, query: Query, *, schema: bool = False) -> _Reply:
        begun = time.monotonic()
        first = last = 0.0
        generation: Generation | None = None
        async for piece in self.backend.stream(self._request(query, schema)):
            if isinstance(piece, QueuePlace):
                continue
            last = time.monotonic() - begun
            first = first or last
            if isinstance(piece, Generation):
                generation = piece
        if generation is None:
            raise BadReply("the reply ended before it was complete")
        return _Reply(generation, self._answer(query, generation, schema), first, last)

    def _request(self, query: Query, schema: bool) -> Request:
        """A guidance service is asked for a verdict, a model by the prompt of a draft."""
        stage = _stage(self.member)
        timeout = self.team.policy.timeout(stage)
        if self.member.options.is_guide:
            task = VerdictRequest(question=query.question, choices=query.choices)
            return Request(as_messages(task, query.images), timeout=timeout, stage=stage)

        def messages(reply_format: ReplyFormat) -> tuple[Message, ...]:
            return prompts.draft_messages(query, self.member.specialty, reply_format=reply_format)

        lines, as_json = self._reply_format(False), self._reply_format(True)
        return Request(
            messages(as_json if schema else lines),
            Sampling(min(self.team.policy.sampling_for(stage).max_tokens, _TOKENS)),
            timeout=timeout,
            schema=as_json.answer_schema(query) if schema else None,
            plain=messages(lines) if schema else None,
            stage=stage,
        )

    def _answer(self, query: Query, generation: Generation, schema: bool) -> str:
        return read_verdict(generation, query, self._reply_format(schema)).answer

    def _reply_format(self, schema: bool) -> ReplyFormat:
        profile = self.team.prompts_of(self.member)
        return JsonObject(profile) if schema else LabelledLines(profile)


def _circle(colour: str) -> Image:
    picture = PIL.Image.new("RGB", (_SIDE, _SIDE), "white")
    margin = _SIDE // 4
    PIL.ImageDraw.Draw(picture).ellipse((margin, margin, _SIDE - margin, _SIDE - margin), fill=colour)
    return Image.open(picture)
