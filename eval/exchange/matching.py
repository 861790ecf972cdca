"""Finds the item that a reply of another harness belongs to: by id, or by its place in the data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from colm_vl.errors import InputError

from ..types import Item, Reply
from .base import Logged


def matched(logged: Iterable[Logged], items: Sequence[Item], path: Path) -> Iterator[tuple[str, Reply]]:
    """Replies by the id of their item, and those to unknown questions by their own id.

    Harnesses number questions in orders of their own, so the question or the gold answer beside a reply must agree with
    the item. Otherwise replies could be scored as answers to other questions. Raises `InputError` if they do not agree.
    """
    replies = list(logged)
    known = {item.id: item for item in items}
    by_id = [known.get(one.id) for one in replies]
    by_place = [_at(items, one.position) for one in replies]
    asked = Counter(_squeezed(item.question) for item in items)
    ways = [way for way in (by_id, by_place) if any(way)] or [by_id]
    wrong = [_first_wrong(replies, way, asked, sure=way is by_id) for way in ways]
    if all(wrong):
        raise InputError(
            f"{path}: {wrong[0]}", hint="it must be of the same questions, in the same order or with the same ids"
        )
    return (
        (item.id if item else one.id or str(one.position), Reply(one.text))
        for one, item in zip(replies, ways[wrong.index("")], strict=True)
    )


def _at(items: Sequence[Item], position: int | None) -> Item | None:
    return items[position] if position is not None and 0 <= position < len(items) else None


def _first_wrong(
    replies: Sequence[Logged], items: Sequence[Item | None], asked: Mapping[str, int], *, sure: bool
) -> str:
    """The first reply that is not to its item, as text; "" if there is none. If not `sure`, replies that cannot be
    compared with their item are wrong, too."""
    for one, item in zip(replies, items, strict=True):
        if item and not _agrees(one, item, asked, sure=sure):
            return f"a reply to {_short(one)} is not one to {item.id!r}"
    return ""


def _agrees(logged: Logged, item: Item, asked: Mapping[str, int], *, sure: bool) -> bool:
    """By the question, unless other items ask the same, or by the gold answer."""
    said, question = _squeezed(logged.question), _squeezed(item.question)
    texts = [item.options[item.letters.index(letter)] for letter in item.gold if letter in item.letters]
    accepted = {_squeezed(text) for text in (*item.gold, *texts)}
    compared = [_squeezed(target) in accepted for target in logged.targets]
    if said and asked[question] == 1:
        compared.append(question in said or said in question)
    return any(compared) if compared else sure


def _squeezed(text: str) -> str:
    return " ".join(text.lower().split())


def _short(logged: Logged) -> str:
    text = logged.question or " | ".join(logged.targets)
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
