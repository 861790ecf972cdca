"""Guides: what selects clients, writes guidance for them, and gives verdicts.

`ServerGuide` does this with the team's server and the prompts of this package. A remote service with its own server and
prompts can be another `Guide`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Protocol

from colm_vl import prompts
from colm_vl.backends.base import Message
from colm_vl.prompts import ReplyFormat
from colm_vl.replies import by_heading, distinct_answers, notes_on, read_draft
from colm_vl.run import Prompt, Replies, Run
from colm_vl.team import Member
from colm_vl.types import Failure, Guidance, Note, Query, Selection, Verdict


class Guide(Protocol):
    """Each method returns None if it got no usable reply; the reason is then recorded in the run.

    `query` is the question as the guide may see it (`Run.server_query`). `replies` are the clients' latest replies.
    """

    @property
    def name(self) -> str: ...

    async def select(self, query: Query, clients: Sequence[Member], count: int) -> Selection | None: ...

    async def guide(self, query: Query, replies: Replies, *, round: int) -> Guidance | None: ...

    async def verdict(self, query: Query, replies: Replies, *, round: int) -> Verdict | None:
        """Answer the question from the replies, or on its own if there are none."""
        ...


def guide_of(run: Run) -> Guide | None:
    """The guide of the run's team, or None."""
    return ServerGuide(run, run.team.server) if run.team.server else None


class ServerGuide:
    """The team's own server."""

    def __init__(self, run: Run, server: Member) -> None:
        self._run = run
        self._server = server
        self._reply_format = run.reply_format(server)

    @property
    def name(self) -> str:
        return self._server.name

    async def select(self, query: Query, clients: Sequence[Member], count: int) -> Selection | None:
        """Names of clients that do not exist are dropped and recorded."""
        specialties = {client.name: client.specialty for client in clients}
        messages = prompts.selection_messages(query, specialties, count, reply_format=self._reply_format)
        generation = await self._run.call(self._server, "select", Prompt(messages))
        if isinstance(generation, Failure):
            self._run.record(Note("the server could not be asked to select; the clients' specialties decide"))
            return None
        read = prompts.read_selection(generation.text, tuple(specialties))
        if not read.names:
            self._run.record(Note("the server named no client that exists; the clients' specialties decide"))
            return None
        return Selection(read.names[:count], "server", read.dropped)

    async def guide(self, query: Query, replies: Replies, *, round: int) -> Guidance | None:
        """The server sees the question, the pictures and all drafts, and writes guidance."""
        run, distinct = self._run, distinct_answers(replies)

        def build(reply_format: ReplyFormat) -> tuple[Message, ...]:
            return prompts.guidance_messages(
                query,
                _shown(run, replies),
                images_hidden=run.images_hidden,
                distinct=distinct,
                reply_format=reply_format,
            )

        prompt = run.prompt(self._server, build, asks="guidance")
        generation = await run.call(self._server, "guide", prompt, round=round)
        if isinstance(generation, Failure):
            return None
        read = prompts.written_in(generation.text, self._reply_format).read_guidance(generation.text)
        for note in notes_on(self.name, read.flaws, "" if read.own else "its guidance says nothing of its own"):
            run.record(note)
        if not read.own:
            return None
        shown = read.own if read.flaws else ""
        return Guidance(
            self.name, prompts.shown(generation.text), round, read.evidence, read.disagreement, read.check,
            flaws=read.flaws, shown=shown,
        )  # fmt: skip

    async def verdict(self, query: Query, replies: Replies, *, round: int) -> Verdict | None:
        """The server answers from the pictures and the drafts. Without drafts it gets the same prompt as a client."""
        run = self._run

        def build(reply_format: ReplyFormat) -> tuple[Message, ...]:
            if not replies:
                return prompts.draft_messages(query, reply_format=reply_format)
            shown = _shown(run, replies)
            return prompts.verdict_messages(query, shown, images_hidden=run.images_hidden, reply_format=reply_format)

        prompt = run.prompt(self._server, build, asks="answer")
        generation = await run.call(self._server, "verdict", prompt, round=round)
        if isinstance(generation, Failure):
            return None
        said = read_draft(self.name, generation, query.choices, self._reply_format)
        for note in notes_on(self.name, said.flaws):
            run.record(note)
        return Verdict(self.name, said.text, said.answer, said.choice, said.caption, said.confidence, flaws=said.flaws)


def _shown(run: Run, replies: Replies) -> Mapping[str, str]:
    """The drafts as the server sees them, by heading: in the team's order, or shuffled and without names if the policy
    is `blind`."""
    if not run.policy.blind:
        return by_heading(run.team, replies)
    texts = [reply.text for reply in replies.values()]
    random.Random(f"{run.policy.seed} {run.query.question}").shuffle(texts)
    return {f"Model {number}": text for number, text in enumerate(texts, 1)}
