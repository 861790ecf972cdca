"""Guides: what selects clients, writes guidance for them, and gives verdicts.

`ServerGuide` does this with the team's server and the prompts of this package, `ServiceGuide` asks a guidance service,
which has its own server and prompts.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from colm_vl import prompts
from colm_vl.backends.base import Generation, Message, Sampling
from colm_vl.events import Note
from colm_vl.guidance_protocol import (
    ClientInfo,
    GuidanceReading,
    GuidanceRequest,
    SelectionReading,
    SelectionRequest,
    ShownDrafts,
    Task,
    VerdictReading,
    VerdictRequest,
    as_messages,
    described,
)
from colm_vl.prompts import ReplyFormat
from colm_vl.replies import by_heading, distinct_answers, read_draft, shown_to_others
from colm_vl.run import Prompt, Replies, Run
from colm_vl.team import Member
from colm_vl.types import Failure, Query, Stage

_Reading = TypeVar("_Reading", bound=BaseModel)


class Guide(Protocol):
    """Each method returns None if the call failed; the failure is then recorded in the run.

    `query` is the question as the guide may see it (`Run.server_query`).
    """

    @property
    def name(self) -> str: ...

    async def select(self, query: Query, specialties: Mapping[str, str], count: int) -> SelectionReading | None:
        """Select from clients, given by name."""
        ...

    async def prefetch(self, query: Query) -> Generation | None:
        """Read the part of the guidance prompt that comes before the drafts."""
        ...

    async def guide(self, query: Query, drafts: ShownDrafts, *, round: int) -> GuidanceReading | None: ...

    async def verdict(self, query: Query, drafts: ShownDrafts, *, round: int) -> VerdictReading | None:
        """Answer the question from the drafts, or on its own if there are none."""
        ...


def guide_of(run: Run) -> Guide | None:
    """The guide of the run's team, or None."""
    server = run.team.server
    if server is None:
        return None
    return ServiceGuide(run, server) if server.options.is_guide else ServerGuide(run, server)


def show(run: Run, replies: Replies) -> ShownDrafts:
    """The clients' latest replies for a guide: in the team's order, or shuffled and without names if the policy is
    `blind`."""
    if not run.policy.blind:
        texts = by_heading(run.team, replies)
    else:
        shuffled = [shown_to_others(reply) for reply in replies.values()]
        random.Random(f"{run.policy.seed} {run.query.question}").shuffle(shuffled)
        texts = {f"Model {number}": text for number, text in enumerate(shuffled, 1)}
    return ShownDrafts(texts, distinct_answers(replies), run.images_hidden)


class ServerGuide:
    """A server of the team itself."""

    def __init__(self, run: Run, server: Member) -> None:
        self._run = run
        self._server = server
        self._reply_format = run.reply_format(server)

    @property
    def name(self) -> str:
        return self._server.name

    async def select(self, query: Query, specialties: Mapping[str, str], count: int) -> SelectionReading | None:
        messages = prompts.selection_messages(query, specialties, count, reply_format=self._reply_format)
        generation = await self._run.call(self._server, "select", Prompt(messages))
        return None if isinstance(generation, Failure) else _read_selection(generation, specialties, count)

    async def prefetch(self, query: Query) -> Generation | None:
        def build(reply_format: ReplyFormat) -> tuple[Message, ...]:
            return prompts.guidance_prefix(query, images_hidden=self._run.images_hidden, reply_format=reply_format)

        return await self._run.prefetch(self._server, self._run.prompt(self._server, build, asks="guidance"))

    async def guide(self, query: Query, drafts: ShownDrafts, *, round: int) -> GuidanceReading | None:
        def build(reply_format: ReplyFormat) -> tuple[Message, ...]:
            return prompts.guidance_messages(
                query,
                drafts.texts,
                images_hidden=drafts.images_hidden,
                distinct=drafts.answers,
                reply_format=reply_format,
            )

        prompt = self._run.prompt(self._server, build, asks="guidance")
        prefetched = await self._run.prefetching if self._run.prefetching else None
        generation = await self._run.call(self._server, "guide", prompt, round=round, continues=prefetched)
        return None if isinstance(generation, Failure) else _read_guidance(generation, self._reply_format)

    async def verdict(self, query: Query, drafts: ShownDrafts, *, round: int) -> VerdictReading | None:
        """Without drafts, the server gets the same prompt as a client."""

        def build(reply_format: ReplyFormat) -> tuple[Message, ...]:
            if not drafts.texts:
                return prompts.draft_messages(query, reply_format=reply_format)
            return prompts.verdict_messages(
                query, drafts.texts, images_hidden=drafts.images_hidden, reply_format=reply_format
            )

        prompt = self._run.prompt(self._server, build, asks="answer")
        generation = await self._run.call(self._server, "verdict", prompt, round=round)
        return None if isinstance(generation, Failure) else read_verdict(generation, query, self._reply_format)


class ServiceGuide:
    """A guidance service. What the team's policy says about prompts and sampling of the server does not apply to it."""

    def __init__(self, run: Run, server: Member) -> None:
        self._run = run
        self._server = server

    @property
    def name(self) -> str:
        return self._server.name

    async def select(self, query: Query, specialties: Mapping[str, str], count: int) -> SelectionReading | None:
        clients = tuple(ClientInfo(name=name, specialty=specialty) for name, specialty in specialties.items())
        task = SelectionRequest(
            question=query.question, choices=query.choices, history=query.history, clients=clients, count=count
        )
        generation = await self._ask("select", task, query)
        if generation is None:
            return None
        return _given(generation, SelectionReading) or _read_selection(generation, specialties, count)

    async def prefetch(self, query: Query) -> Generation | None:
        """The service has no request for this."""
        return None

    async def guide(self, query: Query, drafts: ShownDrafts, *, round: int) -> GuidanceReading | None:
        task = GuidanceRequest(
            question=query.question, choices=query.choices, history=query.history, **described(drafts)
        )
        generation = await self._ask("guide", task, query, round)
        if generation is None:
            return None
        return _given(generation, GuidanceReading) or _read_guidance(generation, prompts.LABELLED_LINES)

    async def verdict(self, query: Query, drafts: ShownDrafts, *, round: int) -> VerdictReading | None:
        task = VerdictRequest(
            question=query.question, choices=query.choices, history=query.history, **described(drafts)
        )
        generation = await self._ask("verdict", task, query, round)
        if generation is None:
            return None
        return read_verdict(generation, query, prompts.LABELLED_LINES)

    async def _ask(self, stage: Stage, task: Task, query: Query, round: int = 0) -> Generation | None:
        prompt = Prompt(as_messages(task, query.images))
        generation = await self._run.call(self._server, stage, prompt, round=round, sampling=Sampling())
        if isinstance(generation, Failure):
            return None
        for note in (generation.reading or {}).get("notes", ()):
            self._run.record(Note(str(note)))
        return generation


def _given(generation: Generation, kind: type[_Reading]) -> _Reading | None:
    """What a service read in its server's reply. None if the call was only planned, or its record is damaged."""
    if generation.reading is None:
        return None
    try:
        return kind.model_validate({**generation.reading, "text": generation.text})
    except ValidationError:
        return None


def _read_selection(generation: Generation, specialties: Mapping[str, str], count: int) -> SelectionReading:
    read = prompts.read_selection(generation.text, tuple(specialties))
    return SelectionReading(text=generation.text, clients=read.names[:count], dropped=read.dropped)


def _read_guidance(generation: Generation, reply_format: ReplyFormat) -> GuidanceReading:
    text = generation.text
    read = prompts.written_in(text, reply_format).read_guidance(text)
    return GuidanceReading(
        text=text,
        evidence=read.evidence,
        disagreement=read.disagreement,
        check=read.check,
        own=read.own,
        flaws=read.flaws,
    )


def read_verdict(generation: Generation, query: Query, reply_format: ReplyFormat) -> VerdictReading:
    """What a service read, or what `reply_format` reads in the text of a model."""
    given = _given(generation, VerdictReading)
    if given is not None and (given.choice in query.letters or not (given.choice or (query.choices and given.answer))):
        return given
    said = read_draft("", generation, query.choices, reply_format)
    return VerdictReading(
        text=said.text,
        answer=said.answer,
        choice=said.choice,
        caption=said.caption,
        confidence=said.confidence,
        flaws=said.flaws,
    )
