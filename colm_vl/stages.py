"""The stages of the protocol (select, draft, guide, refine, settle), and those of other strategies (exchange, verdict).

Each stage calls members through `Run.call`, reads the replies and records the results. If a member fails, the stage
continues with the others. The method is CoLM (arXiv 2511.06991).
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from colm_vl import answers, prompts
from colm_vl.backends.base import Message
from colm_vl.events import Note
from colm_vl.guides import Guide, guide_of, show
from colm_vl.prompts import ReplyFormat
from colm_vl.replies import DOES_NOT_KNOW, by_heading, missing_in, notes_on, read_draft
from colm_vl.run import Prompt, Replies, Run, Turn
from colm_vl.team import Member
from colm_vl.types import (
    STAGE_TITLES,
    ClientReply,
    Decision,
    Draft,
    Failure,
    Guidance,
    Late,
    Refinement,
    Selection,
    Settlement,
    Stage,
    Verdict,
)

_Reply = TypeVar("_Reply", Draft, Refinement)


async def select(run: Run) -> tuple[Member, ...]:
    """The clients that take part: all, or `top_k` of them, selected by the server or by their specialties.

    The asking client always takes part. If the server names clients that do not exist, they are dropped and recorded.
    """
    clients, top_k = run.team.clients, run.policy.top_k
    if top_k is None or top_k >= len(clients):
        run.record(Selection(tuple(client.name for client in clients)))
        return clients
    selection = None
    if run.policy.select == "server" and (guide := guide_of(run)):
        run.begin("select", [guide.name])
        selection = await _selected(run, guide, clients, top_k)
    if selection is None:
        reason = "words that the question shares with the specialty"
        selection = Selection(_rank_by_specialty(run.query.question, clients)[:top_k], "specialty", reason=reason)
    asker = run.policy.asker or (clients[0].name if run.policy.settle == "asker" else None)
    if asker is not None and asker not in selection.clients:
        names = (*selection.clients[: top_k - 1], asker)
        selection = replace(selection, clients=names, reason=f"{selection.reason}; {asker} asks".lstrip("; "))
    run.record(selection)
    return tuple(client for client in clients if client.name in selection.clients)


async def draft(run: Run, clients: Sequence[Member]) -> Replies:
    """Each client answers on its own."""
    run.begin("draft", [client.name for client in clients])

    async def one(client: Member) -> Draft | None:
        prompt = _draft_prompt(run, client)
        generation = await run.call(client, "draft", prompt)
        if isinstance(generation, Failure):
            return None
        run.turns[client.name] = prompt.turn(generation)
        return read_draft(client.name, generation, run.query.choices, run.reply_format(client))

    return await _for_each(run, clients, one, "draft")


async def sample(run: Run, client: Member, count: int, temperature: float) -> Sequence[Draft]:
    """One client answers `count` times, each time with a different seed. Failed samples are left out."""
    run.begin("draft", [client.name])
    prompt = _draft_prompt(run, client)
    base = replace(run.policy.sampling_for("draft"), temperature=temperature)

    async def one(number: int) -> Draft | None:
        sampling = replace(base, seed=run.policy.seed + number)
        generation = await run.call(client, "draft", prompt, sample=number, sampling=sampling)
        if isinstance(generation, Failure):
            return None
        return read_draft(client.name, generation, run.query.choices, run.reply_format(client), number)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_recorded(run, one(number))) for number in range(1, count + 1)]
    return [draft for task in tasks if (draft := task.result()) is not None]


@asynccontextmanager
async def prefetch(run: Run) -> AsyncGenerator[None, None]:
    """With `policy.prefetch`, let the server read the pictures and the question while the clients draft. This ends with
    the context if guidance was not asked for."""
    guide = guide_of(run) if run.policy.prefetch else None
    if guide is None:
        yield
        return
    run.prefetching = asyncio.create_task(guide.prefetch(await run.server_query()))
    try:
        yield
    finally:
        run.prefetching.cancel()
        await asyncio.wait([run.prefetching])


async def guide(run: Run, replies: Replies, *, round: int = 1) -> Guidance | None:
    """The server sees the question, the pictures and all drafts, and writes guidance. None if there is no server or it
    fails."""
    guide = guide_of(run)
    if guide is None:
        return None
    run.begin("guide", [guide.name], round)
    reading = await guide.guide(await run.server_query(), show(run, replies), round=round)
    if reading is None:
        return None
    for note in notes_on(guide.name, reading.flaws, "" if reading.own else "its guidance says nothing of its own"):
        run.record(note)
    if not reading.own:
        return None
    guidance = Guidance(
        guide.name, prompts.shown(reading.text), round, reading.evidence, reading.disagreement, reading.check,
        flaws=reading.flaws, shown=reading.own if reading.flaws else "",
    )  # fmt: skip
    run.record(guidance)
    return guidance


async def refine(run: Run, replies: Replies, guidance: Guidance, *, round: int = 1) -> Replies:
    """Each client that drafted gets the guidance and keeps or changes its own answer."""

    said = guidance.shown or guidance.text

    def conversation(client: Member, turn: Turn, reply_format: ReplyFormat) -> tuple[Message, ...]:
        return prompts.refine_messages(turn.messages, turn.generation.text, run.query, said, reply_format=reply_format)

    return await _reconsider(run, replies, conversation, round)


async def exchange(run: Run, replies: Replies, *, round: int = 1) -> Replies:
    """Each client that drafted gets the concatenated drafts of the others instead of guidance.

    This is the vision version of the method as published by its authors. A single client keeps its answer.
    """
    if len(replies) < 2:
        return replies

    def conversation(client: Member, turn: Turn, reply_format: ReplyFormat) -> tuple[Message, ...]:
        peers = by_heading(run.team, {name: reply for name, reply in replies.items() if name != client.name})
        return prompts.peers_messages(turn.messages, turn.generation.text, run.query, peers, reply_format=reply_format)

    return await _reconsider(run, replies, conversation, round)


async def verdict(run: Run, replies: Replies, *, round: int = 1) -> Verdict | None:
    """The server answers, from the pictures and the drafts, or alone if there are no drafts."""
    guide = guide_of(run)
    if guide is None:
        return None
    run.begin("verdict", [guide.name], round)
    said = await guide.verdict(await run.server_query(), show(run, replies), round=round)
    if said is None:
        return None
    verdict = Verdict(guide.name, said.text, said.answer, said.choice, said.caption, said.confidence, flaws=said.flaws)
    for note in notes_on(guide.name, said.flaws, DOES_NOT_KNOW if answers.abstains(verdict) else ""):
        run.record(note)
    run.record(verdict)
    return verdict


def gate(run: Run, replies: Replies, *, round: int) -> Decision:
    """Decide with the policy's gate whether to ask the server. With `shadow`, it is asked even if the gate skips it;
    with `audit`, in a share of these questions."""
    void = run.policy.gate.void_for(run.team.infos, run.policy)
    if void and round == 1:
        run.record(Note(void))
    decided = Decision(True, void) if void else run.policy.gate.decide(replies)
    watched = not decided.asked and (run.policy.shadow or _is_audited(run))
    decision = replace(decided, asked=decided.asked or watched, round=round, shadow=watched)
    run.record(decision)
    return decision


def _is_audited(run: Run) -> bool:
    """Drawn by the question, so that a resumed run makes the same choice."""
    share = run.policy.audit
    if not share:
        return False
    drawn = hashlib.sha256(f"{run.policy.seed} {run.query.id} {run.query.question}".encode()).digest()
    return int.from_bytes(drawn[:8], "big") < share * 2**64


def enough(run: Run, replies: Replies) -> bool:
    """Whether there are at least `min_drafts` drafts. If not, the run falls back to a vote."""
    if replies and len(replies) < run.policy.min_drafts:
        run.fall_back("vote", f"{len(replies)} drafts, min_drafts is {run.policy.min_drafts}")
    return len(replies) >= max(run.policy.min_drafts, 1)


def settle(run: Run, replies: Replies) -> Settlement | None:
    """Settle on the asking client's answer, or on a vote over all: also if the asking client says that it does not know
    and another answers. None if there is no readable answer."""
    asker = run.asker.name
    if (run.policy.settle or ("asker" if run.policy.asker else "vote")) == "asker":
        own = replies.get(asker)
        others_answer = any(answers.is_answer(reply) for reply in replies.values())
        if own is not None and (answers.is_answer(own) or (own.readable and not others_answer)):
            return _settled(run, Settlement(own.answer, own.choice, "asker", (asker,)))
        problem = "does not know" if own is not None and answers.abstains(own) else "has no readable answer"
        run.fall_back("vote", f"{asker}, which asks, {problem}")
    return settle_by_vote(run, list(replies.values()))


def settle_by_vote(run: Run, replies: Sequence[ClientReply]) -> Settlement | None:
    """Settle on the most frequent answer; confidence breaks ties. Replies that say that a client does not know count
    only if there is no other answer. None if there is no readable answer."""
    counted = answers.vote(
        answers.Ballot(reply.client, reply.choice or reply.answer, reply.confidence) for reply in replies
    )
    if counted is None:
        return None
    voters = counted.votes[counted.winner]
    chosen = next(reply for reply in replies if (reply.choice or reply.answer) == counted.winner)
    return _settled(run, Settlement(chosen.answer, chosen.choice, "vote", voters, counted.votes))


def settle_on(run: Run, verdict: Verdict) -> Settlement | None:
    """Settle on the server's answer. None if it could not be read."""
    if not verdict.answer:
        return None
    return _settled(run, Settlement(verdict.answer, verdict.choice, "server", (verdict.server,)))


async def settle_by_verdict(run: Run, replies: Replies, *, round: int = 1) -> Settlement | None:
    """Ask the server for a verdict and settle on it. With too few drafts, without a readable verdict, or if the server
    does not know and a client answers, settle on a vote."""
    if enough(run, replies):
        said = await verdict(run, replies, round=round)
        if said is not None and answers.abstains(said) and any(answers.is_answer(reply) for reply in replies.values()):
            run.fall_back("vote", "the server does not know")
        elif said is not None and (settlement := settle_on(run, said)):
            return settlement
        else:
            run.fall_back("vote", "the server gave no readable verdict")
    return settle_by_vote(run, list(replies.values()))


def _settled(run: Run, settlement: Settlement) -> Settlement:
    run.record(settlement)
    return settlement


# --- shared by the stages ---


async def _selected(run: Run, guide: Guide, clients: Sequence[Member], count: int) -> Selection | None:
    """The guide's selection, if it names a client. The reason why not is recorded."""
    specialties = {client.name: client.specialty for client in clients}
    reading = await guide.select(await run.server_query(), specialties, count)
    if reading is not None:
        known = tuple(name for name in reading.clients if name in specialties)[:count]
        if known:
            unknown = tuple(name for name in reading.clients if name not in specialties)
            return Selection(known, "server", (*reading.dropped, *unknown))
    problem = "could not be asked to select" if reading is None else "named no client that exists"
    run.record(Note(f"the server {problem}; the clients' specialties decide"))
    return None


def _draft_prompt(run: Run, client: Member) -> Prompt:
    def build(reply_format: ReplyFormat) -> tuple[Message, ...]:
        return prompts.draft_messages(run.query, client.specialty, reply_format=reply_format)

    return run.prompt(client, build, asks="answer")


async def _for_each(
    run: Run,
    clients: Sequence[Member],
    one: Callable[[Member], Coroutine[Any, Any, _Reply | None]],
    stage: Stage,
    round: int = 0,
) -> Mapping[str, _Reply]:
    """Call the clients concurrently; return the replies of those that succeed, in the team's order. With a quorum, late
    clients are cancelled and recorded."""
    begun, quorum = time.monotonic(), run.policy.quorum
    async with asyncio.TaskGroup() as group:
        tasks = {client.name: group.create_task(_recorded(run, one(client))) for client in clients}
        if quorum is not None and quorum < len(tasks):
            for task in await _late(tasks.values(), quorum, run.policy.patience):
                task.cancel()
    finished = {name: task for name, task in tasks.items() if not task.cancelled()}
    for name in (name for name in tasks if name not in finished):
        run.record(Late(name, stage, round, time.monotonic() - begun))
        run.record(Note(f"{name}: late, no longer waited for ({STAGE_TITLES[stage]})"))
    return {name: reply for name, task in finished.items() if (reply := task.result()) is not None}


async def _late(
    tasks: Iterable[asyncio.Task[_Reply | None]], quorum: int, patience: float
) -> Collection[asyncio.Task[_Reply | None]]:
    """Wait for as many replies as the quorum, then for `patience` seconds, and return what has not finished by then."""
    pending, replies = set(tasks), 0
    while pending and replies < quorum:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        replies += sum(task.exception() is None and task.result() is not None for task in done)
    if pending:
        _, pending = await asyncio.wait(pending, timeout=patience)
    return pending


async def _recorded(run: Run, asked: Coroutine[Any, Any, _Reply | None]) -> _Reply | None:
    reply = await asked
    if reply is not None:
        run.record(reply)
        missing = missing_in(reply, run.reply_format(run.team.client(reply.client)))
        for note in notes_on(reply.client, reply.flaws, missing):
            run.record(note)
    return reply


async def _reconsider(
    run: Run, replies: Replies, conversation: Callable[[Member, Turn, ReplyFormat], tuple[Message, ...]], round: int
) -> Replies:
    """One more turn for each client. A client that fails keeps its previous answer."""
    clients = [client for client in run.team.clients if client.name in replies]
    run.begin("refine", [client.name for client in clients], round)

    async def one(client: Member) -> Refinement | None:
        turn = run.turns[client.name]
        prompt = run.prompt(client, partial(conversation, client, turn), asks="answer", after=turn)
        generation = await run.call(client, "refine", prompt, round=round, continues=turn.generation)
        if isinstance(generation, Failure):
            return None
        run.turns[client.name] = prompt.turn(generation)
        before = replies[client.name]
        now = read_draft(client.name, generation, run.query.choices, run.reply_format(client))
        return Refinement(
            now.client, now.text, now.answer, now.choice, now.caption, now.confidence,
            round, changed=not answers.same_reply(before, now), flaws=now.flaws,
        )  # fmt: skip

    refined = await _for_each(run, clients, one, "refine", round)
    # An unreadable refinement does not replace an earlier answer.
    return {name: new if (new := refined.get(name)) and new.readable else old for name, old in replies.items()}


def _rank_by_specialty(question: str, clients: Sequence[Member]) -> tuple[str, ...]:
    """Client names, by the number of words shared by the question and the specialty; ties in the team's order."""
    words = set(_words(question))
    ranked = sorted(clients, key=lambda client: -len(words & set(_words(client.specialty))))
    return tuple(client.name for client in ranked)


def _words(text: str) -> list[str]:
    """Words without a plural s, so that "charts" matches "chart"."""
    return [word.removesuffix("s") for word in re.findall(r"\w{3,}", text.casefold())]
