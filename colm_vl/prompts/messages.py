"""The messages of each stage.

The order within a prompt is fixed, so that prompts share prefixes (see `refine_messages`): system message, pictures,
question, and then everything that differs. A model's text is shown to other models between boundary lines that it
cannot contain.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from colm_vl.backends.base import Message, Part
from colm_vl.prompts.json_replies import said_to_others
from colm_vl.prompts.profile import Profile, Texts, fill
from colm_vl.prompts.replies import LABELLED_LINES, ReplyFormat
from colm_vl.types import Query

_MAX_LISTED = 200
"""Characters of an answer in a list of answers."""


def draft_messages(
    query: Query, specialty: str = "", *, reply_format: ReplyFormat = LABELLED_LINES
) -> tuple[Message, ...]:
    """A client's first call, or, without a specialty, the call of a model that answers alone."""
    texts = reply_format.profile.texts
    system = fill(texts.draft_system, specialty=_one_line(specialty)) if specialty else texts.solo_system
    ask = f"{_question(query, texts)}\n\n{reply_format.ask_answer(query)}"
    example = _example(query, reply_format)
    return Message("system", (system,)), *example, Message("user", (*_pictures(query), ask))


def refine_messages(
    conversation: Sequence[Message],
    reply: str,
    query: Query,
    guidance: str,
    *,
    reply_format: ReplyFormat = LABELLED_LINES,
) -> tuple[Message, ...]:
    """A client's next turn: its conversation so far with the reply as it was written, then the guidance.

    The earlier messages are not changed, so the prompt of the draft is a prefix of this one, and a prefix cache avoids
    computing the pictures and the question again.
    """
    guidance = said_to_others(guidance)
    boundary, texts = draw_boundary(guidance), reply_format.profile.texts
    ask = "\n".join(
        (
            fill(texts.guidance_intro, boundary=boundary),
            fence(guidance, boundary),
            "",
            texts.refine_task,
            reply_format.ask_answer(query),
        )
    )
    return *conversation, Message("assistant", (reply,)), Message("user", (ask,))


def peers_messages(
    conversation: Sequence[Message],
    reply: str,
    query: Query,
    peers: Mapping[str, str],
    *,
    reply_format: ReplyFormat = LABELLED_LINES,
) -> tuple[Message, ...]:
    """As `refine_messages`, with the other clients' replies, by name, in place of guidance."""
    peers = _said(peers)
    boundary, texts = draw_boundary(*peers, *peers.values()), reply_format.profile.texts
    ask = "\n".join(
        (
            fill(texts.peers_intro, boundary=boundary),
            _fence_all(peers, boundary),
            "",
            texts.refine_task,
            reply_format.ask_answer(query),
        )
    )
    return *conversation, Message("assistant", (reply,)), Message("user", (ask,))


def guidance_messages(
    query: Query,
    drafts: Mapping[str, str],
    *,
    images_hidden: bool = False,
    distinct: Sequence[str] = (),
    reply_format: ReplyFormat = LABELLED_LINES,
) -> tuple[Message, ...]:
    """The server's call: pictures, question, drafts by heading, what to write.

    With `images_hidden`, the prompt says that there are pictures which the server does not see.
    """
    texts = reply_format.profile.texts
    ask = _with_drafts(query, drafts, images_hidden, texts, _guidance_task(distinct, reply_format))
    return *_before_guidance(reply_format), Message("user", (*_pictures(query), ask))


def guidance_prefix(
    query: Query, *, images_hidden: bool = False, reply_format: ReplyFormat = LABELLED_LINES
) -> tuple[Message, ...]:
    """The beginning of `guidance_messages`, up to the drafts, with which a prefix cache can be filled."""
    parts = _before_drafts(query, images_hidden, reply_format.profile.texts)
    return *_before_guidance(reply_format), Message("user", (*_pictures(query), "\n".join(parts)))


def _before_guidance(reply_format: ReplyFormat) -> tuple[Message, ...]:
    """The messages before the question: the system message and the worked example."""
    texts, example = reply_format.profile.texts, reply_format.guidance_example()
    turns: list[Message] = []
    if example is not None:
        by_number = {f"Model {number}": draft for number, draft in enumerate(example.drafts, 1)}
        task = _guidance_task(example.answers, reply_format)
        ask = _with_drafts(Query(example.question), by_number, False, texts, task)
        turns = [Message("user", (ask,)), Message("assistant", (example.reply,))]
    return Message("system", (texts.guide_system,)), *turns


def verdict_messages(
    query: Query,
    drafts: Mapping[str, str],
    *,
    images_hidden: bool = False,
    reply_format: ReplyFormat = LABELLED_LINES,
) -> tuple[Message, ...]:
    """The server answers for itself, from the same material as for guidance."""
    texts, task = reply_format.profile.texts, reply_format.ask_answer(query)
    return (
        Message("system", (texts.verdict_system,)),
        Message("user", (*_pictures(query), _with_drafts(query, drafts, images_hidden, texts, task))),
    )


def schema_messages(query: Query, answer: str, schema: Mapping[str, Any], profile: Profile) -> tuple[Message, ...]:
    """The last call of a question whose answer a caller wants in a form of its own."""
    texts, boundary = profile.texts, draw_boundary(answer)
    settled = f"{fill(texts.settled, boundary=boundary)}\n{fence(answer, boundary)}"
    ask = f"{_question(query, texts)}\n\n{settled}\n\n{texts.schema_task}\n{json.dumps(schema, ensure_ascii=False)}"
    return Message("system", (texts.solo_system,)), Message("user", (*_pictures(query), ask))


def selection_messages(
    query: Query, specialties: Mapping[str, str], count: int, *, reply_format: ReplyFormat = LABELLED_LINES
) -> tuple[Message, ...]:
    """The server picks `count` clients by name and specialty."""
    texts = reply_format.profile.texts
    roster = "\n".join(f"{name}: {_one_line(specialty) or 'no specialty'}" for name, specialty in specialties.items())
    ask = f"{_question(query, texts)}\n\n{fill(texts.select_task, count=count)}\n{roster}"
    return Message("system", (texts.select_system,)), Message("user", (*_pictures(query), ask))


def draft_heading(name: str, specialty: str) -> str:
    """The heading of a draft in the server's prompt: the client's name and specialty."""
    return f"{_one_line(name)} ({_one_line(specialty)})" if specialty else _one_line(name)


def draw_boundary(*texts: str) -> str:
    """A mark that does not occur in the texts. It is computed from them, so that the same texts give the same prompt
    and the same journal key."""
    material = hashlib.sha256("\x00".join(texts).encode("utf-8", "surrogatepass"))
    folded = "\n".join(texts).casefold()
    attempt = 0
    while True:
        material.update(str(attempt).encode())
        boundary = material.hexdigest()[:6]
        if boundary not in folded:
            return boundary
        attempt += 1


def fence(text: str, boundary: str) -> str:
    """A text of others between lines with a mark that it does not contain."""
    return f"[begin {boundary}]\n{text.strip()}\n[end {boundary}]"


def _pictures(query: Query) -> tuple[Part, ...]:
    if len(query.images) < 2 and not query.history:
        return query.images
    return tuple(part for number, image in enumerate(query.images, 1) for part in (f"Picture {number}:", image))


def _question(query: Query, texts: Texts) -> str:
    """The earlier turns are quoted rather than given as turns of the prompt: their replies do not have the form that is
    asked for, and many models take turns of users and assistants only in strict alternation."""
    lines = [*_conversation(query, texts)] if query.history else []
    lines += [fill(texts.question, question=query.question.strip())]
    if query.choices:
        lines.append(texts.choices)
        lines += [f"({letter}) {_one_line(text)}" for letter, text in zip(query.letters, query.choices, strict=True)]
    return "\n".join(lines)


def _conversation(query: Query, texts: Texts) -> Iterator[str]:
    turns, shown = [], 0
    for turn in query.history:
        numbers = range(shown + 1, shown + turn.images + 1)
        shown += turn.images
        pictures = f" ({', '.join(f'Picture {number}' for number in numbers)})" if numbers else ""
        turns.append(f"{turn.role}{pictures}: {turn.text.strip()}")
    said = "\n".join(turns)
    boundary = draw_boundary(said)
    yield fill(texts.conversation, boundary=boundary)
    yield f"{fence(said, boundary)}\n"


def _example(query: Query, reply_format: ReplyFormat) -> tuple[Message, ...]:
    """A worked example as an earlier turn. Small models follow it better than a description of the form."""
    example, texts = reply_format.example(query), reply_format.profile.texts
    if example is None:
        return ()
    ask = f"{fill(texts.question, question=example.question)}\n\n{reply_format.ask_answer(query)}"
    return Message("user", (ask,)), Message("assistant", (example.reply,))


def _guidance_task(distinct: Sequence[str], reply_format: ReplyFormat) -> str:
    texts, task = reply_format.profile.texts, reply_format.ask_guidance()
    told = texts.guide_agreed if len(distinct) == 1 else texts.guide_answers
    if not (distinct and told):
        return task
    listed = "\n".join(_one_line(answer)[:_MAX_LISTED] for answer in distinct)
    boundary = draw_boundary(listed)
    return f"{fill(told, boundary=boundary)}\n{fence(listed, boundary)}\n\n{task}"


def _with_drafts(query: Query, drafts: Mapping[str, str], images_hidden: bool, texts: Texts, task: str) -> str:
    drafts = _said(drafts)
    boundary = draw_boundary(*drafts, *drafts.values())
    parts = _before_drafts(query, images_hidden, texts)
    parts += [fill(texts.drafts_intro, boundary=boundary), _fence_all(drafts, boundary), "", task]
    return "\n".join(parts)


def _before_drafts(query: Query, images_hidden: bool, texts: Texts) -> list[str]:
    return [_question(query, texts), "", *([texts.no_pictures] if images_hidden else [])]


def _said(texts: Mapping[str, str]) -> Mapping[str, str]:
    """Remove thinking. This is done before a boundary is drawn, because removing text could create the mark."""
    return {heading: said_to_others(text) for heading, text in texts.items()}


def _fence_all(texts: Mapping[str, str], boundary: str) -> str:
    return "\n".join(f"{_one_line(heading)}\n{fence(text, boundary)}" for heading, text in texts.items())


def _one_line(text: str) -> str:
    return " ".join(text.split())
