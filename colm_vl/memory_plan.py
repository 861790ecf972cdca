"""Plans which local models of a team fit in memory together, at which quantization, with how many requests at once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from random import Random
from typing import Any, Literal, get_args

import PIL.Image

from colm_vl import strategies
from colm_vl.backend_pool import BackendPool
from colm_vl.backends.base import Footprint, Quantization, Request
from colm_vl.backends.scripted import ScriptedBackend
from colm_vl.errors import ColmError
from colm_vl.run import Run
from colm_vl.team import Member, Team
from colm_vl.types import Query
from processors.images import Image

USABLE = 0.9
"""Share of the memory that is planned with. The rest is for the allocator, and for errors of the estimate."""
MOST_REQUESTS = 32

_WORDS = ("red", "the", "bar", "three", "left", "of", "chart", "and", "blue", "a", "number", "is", "at", "two", "right")

Choice = Literal["as set"] | Quantization


@dataclass(frozen=True, slots=True)
class MemberPlan:
    """What one member needs. `footprint` is None if its model is not in this process, or if `problem` says why it is
    not known."""

    member: Member
    footprint: Footprint | None = None
    problem: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Fit:
    """What fits if all local models have one quantization.

    `max_loaded` models fit in memory together, whichever they are, 0 if one of them does not fit alone. Each can then
    answer `requests` at the same time (up to MOST_REQUESTS are tried), for which they take `bytes` together. `enough`:
    these are as many models as there are, or as the policy wants in memory.
    """

    quantization: Choice
    max_loaded: int
    requests: int
    bytes: int
    enough: bool


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """`memory` is in bytes, by place: "memory" or "GPU memory". Members that the strategy does not ask are left out."""

    memory: Mapping[str, int]
    members: tuple[MemberPlan, ...]
    fits: tuple[Fit, ...]

    @property
    def known(self) -> bool:
        return not any(one.problem for one in self.members)

    @property
    def chosen(self) -> Fit | None:
        """With the quantizations of the team file. None if there is no local model whose needs are known."""
        return self.fits[0] if self.fits else None

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain JSON."""
        return {
            "memory": dict(self.memory),
            "usable": USABLE,
            "members": [_as_json(one) for one in self.members],
            "fits": [asdict(fit) for fit in self.fits],
        }


def plan_memory(
    team: Team, *, size: tuple[int, int] = (1024, 1024), pictures: int = 1, memory: int | None = None
) -> MemoryPlan:
    """Plan for questions with pictures of this `size` (width and height), and replies as long as the policy allows.

    `memory` is that of another machine, for all models together; None: what is free on this one. Raises `ConfigError`
    if the strategy of the team cannot be carried out.
    """
    picture = Image.open(PIL.Image.new("RGB", size))
    requests = asyncio.run(_longest_requests(team, Query("What do the pictures show?", (picture,) * pictures)))
    members = tuple(_member(member, requests[member.name]) for member in team.members if member.name in requests)
    local = [one.footprint for one in members if one.footprint]
    places = {"memory": memory} if memory is not None else {_place(one): one.free for one in local}
    by_place = [[one for one in local if memory is not None or _place(one) == place] for place in places]
    choices: tuple[Choice, ...] = ("as set", *get_args(Quantization))
    budgets = [int(USABLE * size) for size in places.values()]
    most = min(len(local), team.policy.max_loaded or len(local))
    fits = tuple(_fit(choice, by_place, budgets, most) for choice in choices) if local else ()
    return MemoryPlan(places, members, fits)


async def _longest_requests(team: Team, query: Query) -> Mapping[str, Request]:
    """The longest request that each member can get: the strategy is carried out with replies of the maximum length."""
    choice = strategies.choose(team.with_policy(top_k=None, quorum=None, prefetch=False))
    numbers = count()

    def reply(request: Request) -> str:
        """Another answer each time, so that no gate skips the server, and no repetitions, which would be cut."""
        number = next(numbers)
        filler = " ".join(Random(number).choices(_WORDS, k=request.sampling.max_tokens))
        return f"Answer: {number}\nCaption: {filler}"

    backends = {member.name: ScriptedBackend(reply) for member in team.members}
    await choice.strategy.run(Run(query, choice.team, BackendPool(backends)))
    return {
        name: max(backend.requests, key=lambda one: sum(len(message.text) for message in one.messages))
        for name, backend in backends.items()
        if backend.requests
    }


def _member(member: Member, request: Request) -> MemberPlan:
    try:
        return MemberPlan(member, member.options.footprint(request))
    except ColmError as error:
        return MemberPlan(member, problem=member.shown(str(error)), hint=member.shown(error.hint))


def _fit(choice: Choice, places: Sequence[Sequence[Footprint]], budgets: Sequence[int], most: int) -> Fit:
    """`places` are the models of each place, `budgets` its memory. At most `most` models are wanted in memory."""

    def taken(loaded: int, requests: int) -> list[int]:
        """Bytes of the `loaded` largest models of each place."""
        kind = None if choice == "as set" else choice
        sizes = [sorted((one.running(requests, kind) for one in models), reverse=True) for models in places]
        return [sum(of_place[:loaded]) for of_place in sizes]

    def fits(loaded: int, requests: int) -> bool:
        return all(size <= budget for size, budget in zip(taken(loaded, requests), budgets, strict=True))

    loaded = max((number for number in range(1, most + 1) if fits(number, 1)), default=0)
    requests = max((number for number in range(1, MOST_REQUESTS + 1) if loaded and fits(loaded, number)), default=0)
    return Fit(choice, loaded, requests, sum(taken(max(loaded, 1), max(requests, 1))), loaded == most)


def _place(one: Footprint) -> str:
    return "GPU memory" if one.on_gpu else "memory"


def _as_json(one: MemberPlan) -> dict[str, Any]:
    member = one.member
    return {
        "member": member.name,
        "role": member.role,
        "backend": member.backend,
        "model": member.label,
        "footprint": asdict(one.footprint) if one.footprint else None,
        "problem": one.problem,
        "hint": one.hint,
    }
