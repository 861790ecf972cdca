"""Reads the messages of a request into a `Query`, within the operator's limits."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Literal

from colm_vl.errors import ImageError
from colm_vl.service.errors import refused
from colm_vl.service.settings import Limits, Settings
from colm_vl.types import EarlierTurn, Query
from processors.fetching import FetchPolicy
from processors.images import Image


@dataclass(frozen=True, slots=True)
class Said:
    """A message: texts, and the addresses of pictures, in order."""

    role: Literal["system", "user", "assistant"]
    parts: tuple[str | Address, ...]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a picture is: a data URI or a URL."""

    url: str = field(repr=False)


async def read_query(
    messages: Sequence[Said], choices: Sequence[str], settings: Settings, decoding: asyncio.Semaphore
) -> Query:
    """The last message is the question, and the others are its history. Pictures are decoded within `decoding`. Raises
    `ApiError` (400), `InputError` or `ImageError`."""
    limits = settings.limits
    _check_conversation(messages, limits)
    _check_choices(choices, limits)
    turns, addresses = _turns(messages)
    *history, question = turns
    most = limits.conversation if is_side_task(messages) else limits.question
    if len(question.text) > most:
        raise refused(f"the question has {len(question.text):,} characters; at most {most:,} are allowed")
    images = await _open(addresses, settings, decoding)
    return Query(question.text, images, tuple(choices), history=tuple(history))


def is_side_task(messages: Sequence[Said]) -> bool:
    """Whether a user interface asks for a title, tags, follow-up questions or search queries of a conversation.

    Open WebUI sends such tasks to the model that is talked to, as one message that begins with the line `### Task:` and
    quotes the conversation in `<chat_history>`.
    """
    asked = [message for message in messages if message.role != "system"]
    if len(asked) != 1 or not all(isinstance(part, str) for part in asked[0].parts):
        return False
    text = "".join(part for part in asked[0].parts if isinstance(part, str))
    return text.lstrip().startswith("### Task:") and "<chat_history>" in text and "</chat_history>" in text


def _turns(messages: Sequence[Said]) -> tuple[list[EarlierTurn], list[Address]]:
    turns: list[EarlierTurn] = []
    addresses: list[Address] = []
    several = sum(isinstance(part, Address) for message in messages for part in message.parts) > 1
    for message in messages:
        texts: list[str] = []
        marks: list[str] = []  # where in a text pictures belong
        before = len(addresses)
        for part in message.parts:
            if isinstance(part, Address):
                addresses.append(part)
                if several and texts:
                    marks.append(f"[Picture {len(addresses)}]")
            else:
                texts += [*marks, part]
                marks.clear()
        turns.append(EarlierTurn(message.role, "\n".join(texts), len(addresses) - before))
    return turns, addresses


def _check_conversation(messages: Sequence[Said], limits: Limits) -> None:
    if not messages or messages[-1].role != "user":
        role = messages[-1].role if messages else "missing"
        raise refused(f"the last message is {role}, expected one of the user", param="messages")
    if len(messages) > limits.turns:
        raise refused(f"{len(messages)} messages; at most {limits.turns} are allowed", param="messages")
    size = sum(len(part) for message in messages for part in message.parts if isinstance(part, str))
    if size > limits.conversation:
        most = f"at most {limits.conversation:,} are allowed"
        raise refused(f"the conversation has {size:,} characters; {most}", param="messages")
    images = sum(isinstance(part, Address) for message in messages for part in message.parts)
    if images > limits.images:
        raise refused(
            f"{images} pictures; at most {limits.images} are allowed", param="messages", code="too_many_images"
        )


def _check_choices(choices: Sequence[str], limits: Limits) -> None:
    if len(choices) > limits.choices:
        raise refused(f"{len(choices)} choices; at most {limits.choices} are allowed", param="colm.choices")
    longest = max(map(len, choices), default=0)
    if longest > limits.choice:
        most = f"at most {limits.choice:,} are allowed"
        raise refused(f"a choice has {longest:,} characters; {most}", param="colm.choices")


async def _open(addresses: Sequence[Address], settings: Settings, decoding: asyncio.Semaphore) -> tuple[Image, ...]:
    """One after the other, so that no more pixels are decoded than are allowed."""
    images: list[Image] = []
    left = settings.limits.all_pixels
    for address in addresses:
        # A host that is slow to send a picture must not keep others from being decoded.
        async with decoding if address.url[:5].lower() == "data:" else nullcontext():
            image = await asyncio.to_thread(_opened, address.url, min(settings.limits.pixels, left), settings.fetch)
        left -= image.pixels
        images.append(image)
    return tuple(images)


def _opened(url: str, most: int, fetch: FetchPolicy | None) -> Image:
    """Only data URIs and, if the operator allows their host, https URLs; never a path on this machine."""
    if not re.match("data:|https:" if fetch else "data:", url, re.IGNORECASE):
        remote = re.match(r"https?:", url, re.IGNORECASE)
        problem = "remote pictures are not fetched by this service" if remote else "an image_url is no data URI"
        raise refused(problem, hint="send data:image/png;base64,…", code="image_url", param="messages")
    if most < 1:
        raise ImageError("the pictures have too many pixels together", hint="send fewer or smaller ones")
    return Image.open(url, max_pixels=most, fetch=fetch)
