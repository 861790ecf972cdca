"""Who stands in the server's place: picks clients, writes guidance for them, gives a verdict.

Today that is the team's server, asked with the prompts of this package. A service elsewhere that has a server and
prompts of its own can be another `Guide`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Protocol

from colm_vl import prompts
from colm_vl.replies import by_heading, read_draft
from colm_vl.run import Replies, Run
from colm_vl.team import Member
from colm_vl.types import Failure, Guidance, Note, Query, Selection, Verdict


class Guide(Protocol):
    """Each method gives None if no usable reply came; why is recorded in the run then.

    `query` is the question as the guide may see it (`Run.server_query`), `replies` are the clients' latest ones.
    """

    @property
    def name(self) -> str: ...

    async def select(self, query: Query, clients: Sequence[Member], count: int) -> Selection | None: ...

    async def guide(self, query: Query, replies: Replies, *, round: int) -> Guidance | None: ...

    async def verdict(self, query: Query, replies: Replies, *, round: int) -> Verdict | None:
        """Without replies, as a model that is asked alone."""
        ...


def guide_of(run: Run) -> Guide | None:
    """The guide of the run's team, if it has one."""
    return ServerGuide(run, run.team.server) if run.team.server else None


class ServerGuide:
    """The team's own server."""

    def __init__(self, run: Run, server: Member) -> None:
        self._run = run
        self._server = server

    @property
    def name(self) -> str:
        return self._server.name

    async def select(self, query: Query, clients: Sequence[Member], count: int) -> Selection | None:
        """Names that the server makes up are dropped and recorded."""
        specialties = {client.name: client.specialty for client in clients}
        messages = prompts.selection_messages(query, specialties, count)
        generation = await self._run.call(self._server, "select", messages)
        if isinstance(generation, Failure):
            self._run.record(Note("the server could not be asked to select; the clients' specialties decide"))
            return None
        read = prompts.read_selection(generation.text, tuple(specialties))
        if not read.names:
            self._run.record(Note("the server named no client that exists; the clients' specialties decide"))
            return None
        return Selection(read.names[:count], "server", read.dropped)

    async def guide(self, query: Query, replies: Replies, *, round: int) -> Guidance | None:
        """The server sees question, pictures and all drafts, and writes guidance."""
        run = self._run
        messages = prompts.guidance_messages(query, _shown(run, replies), images_hidden=run.images_hidden)
        generation = await run.call(self._server, "guide", messages, round=round)
        if isinstance(generation, Failure):
            return None
        read = prompts.LABELLED_LINES.read_guidance(generation.text)
        return Guidance(self.name, generation.text, round, read.evidence, read.disagreement, read.check)

    async def verdict(self, query: Query, replies: Replies, *, round: int) -> Verdict | None:
        """With drafts, from pictures and drafts; without, as a model that is asked alone."""
        run = self._run
        if replies:
            messages = prompts.verdict_messages(query, _shown(run, replies), images_hidden=run.images_hidden)
        else:
            messages = prompts.draft_messages(query)
        generation = await run.call(self._server, "verdict", messages, round=round)
        if isinstance(generation, Failure):
            return None
        said = read_draft(self.name, generation, query.choices)
        return Verdict(self.name, said.text, said.answer, said.choice, said.caption, said.confidence)


def _shown(run: Run, replies: Replies) -> Mapping[str, str]:
    """The drafts as the server sees them, by heading: in the team's order, or blind, without names and shuffled."""
    if not run.policy.blind:
        return by_heading(run.team, replies)
    texts = [reply.text for reply in replies.values()]
    random.Random(f"{run.policy.seed} {run.query.question}").shuffle(texts)
    return {f"Model {number}": text for number, text in enumerate(texts, 1)}
