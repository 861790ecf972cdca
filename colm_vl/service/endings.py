"""Strategies of the service alone: an answer in a caller's form, and one client without the protocol."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from colm_vl import prompts
from colm_vl.backends.base import Message
from colm_vl.run import Prompt, Run
from colm_vl.service.conversation import Said
from colm_vl.service.errors import NO_RETRY, ApiError
from colm_vl.service.schemas import follows
from colm_vl.strategies import Choice
from colm_vl.team import Member
from colm_vl.types import Failure, Settlement

_FENCED = re.compile(r"```(?:json)?\s*(.*?)\s*```", re.DOTALL)


def under_schema(choice: Choice, schema: Mapping[str, Any]) -> Choice:
    """The strategy, and one more call in which a member that gave the answer writes it as JSON under `schema`.

    Members whose models take no schema read it in the prompt. Raises `ApiError` (502) while it is carried out, if the
    reply does not follow the schema.
    """

    async def carry_out(run: Run) -> None:
        settled = await _settled(run, choice)
        if settled is None:
            return
        member = _writer(run, settled)
        profile = run.team.prompts_of(member)
        messages = prompts.schema_messages(run.query, settled.answer, schema, profile)
        sampling = run.policy.sampling_for("refine")
        written = await run.call(member, "settle", Prompt(messages, schema, messages), sampling=sampling)
        text = "" if isinstance(written, Failure) else _bare(written.text)
        if not follows(text, schema):
            problem = "the answer could not be written in the form of response_format"
            raise ApiError(502, problem, code="response_format", headers=NO_RETRY)
        run.record(replace(settled, answer=text))

    return Choice(replace(choice.strategy, run=carry_out), choice.team)


def alone(choice: Choice, messages: Sequence[Said]) -> Choice:
    """The client that asks answers these messages as they are; its whole reply is the answer."""
    asked = tuple(
        Message(message.role, tuple(part for part in message.parts if isinstance(part, str))) for message in messages
    )

    async def carry_out(run: Run) -> None:
        client = run.asker
        generation = await run.call(client, "settle", Prompt(asked), sampling=run.policy.sampling_for("draft"))
        if not isinstance(generation, Failure):
            run.record(Settlement(generation.text.strip(), None, "asker", (client.name,)))

    return Choice(replace(choice.strategy, run=carry_out), choice.team)


async def _settled(run: Run, choice: Choice) -> Settlement | None:
    await choice.strategy.run(run)
    return run.trace().settlement


def _writer(run: Run, settled: Settlement) -> Member:
    """A member that gave the answer. A guidance service writes no answers."""
    members = {member.name: member for member in run.team.members if not member.options.is_guide}
    return next((members[name] for name in settled.by if name in members), run.asker)


def _bare(text: str) -> str:
    """Models that are not held to the schema like to put JSON between fences."""
    fenced = _FENCED.search(text)
    return fenced[1] if fenced else text.strip()
