"""Checks the members of a team: calls each once, with a tiny picture unless it takes none."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import PIL.Image

from colm_vl.backend_pool import BackendPool
from colm_vl.backends.base import Message, Part, Request, Sampling
from colm_vl.errors import ColmError, TimedOut, Unsupported
from colm_vl.team import Member, Team
from processors.images import Image

logger = logging.getLogger(__name__)

_TOKENS = 16  # with a single token, a reasoning model's reply can be its opening tag only, without text
_QUESTION = "Say yes."
_SIDE = 56  # pixels; supported by the processors of all families


@dataclass(frozen=True, slots=True)
class Health:
    """What one member supports, or why it does not work. For `images` and `logprobs`, see `Capabilities`."""

    member: Member
    seconds: float
    images: int | None = None
    logprobs: bool | None = None
    detail: str = ""
    problem: str = ""
    hint: str = ""

    @property
    def works(self) -> bool:
        return not self.problem


def _request(limit: float | None, *parts: Part) -> Request:
    return Request((Message("user", parts),), Sampling(max_tokens=_TOKENS), timeout=limit)


async def check_team(team: Team, pool: BackendPool) -> Sequence[Health]:
    """Call all members concurrently. A member that fails does not affect the others."""
    return await asyncio.gather(*(_check(member, pool, team.policy.timeout("draft")) for member in team.members))


async def _check(member: Member, pool: BackendPool, limit: float | None) -> Health:
    begun = time.monotonic()
    try:
        async with asyncio.timeout(limit), pool.use(member) as backend:
            can = await backend.capabilities()
            if can.images != 0:
                picture = Image.open(PIL.Image.new("RGB", (_SIDE, _SIDE), "white"))
                try:
                    reply = await backend.generate(_request(limit, picture, _QUESTION))
                except Unsupported:  # many endpoints do not report that their model is text-only
                    reply = await backend.generate(_request(limit, _QUESTION))
                    can = replace(can, images=0, detail=f"works without pictures; {can.detail}".rstrip("; "))
            else:
                reply = await backend.generate(_request(limit, _QUESTION))
        logprobs = can.logprobs if can.logprobs is not None else reply.logprobs is not None
        return Health(member, time.monotonic() - begun, can.images, logprobs, can.detail)
    except TimeoutError:
        error: ColmError = TimedOut(f"no reply within {limit:g} s", hint="raise policy.timeouts.draft")
    except ColmError as raised:
        error = raised
    except Exception as raised:  # a bug in one backend must not affect the other members
        logger.debug("unexpected error in %s", member.name, exc_info=True)
        error = ColmError(f"unexpected {type(raised).__name__}", hint="--debug shows where")
    return Health(member, time.monotonic() - begun, problem=member.shown(str(error)), hint=member.shown(error.hint))
