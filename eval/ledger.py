"""Who changed what for better and for worse: the flip ledger, and how the answer compares with the drafts behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from colm_vl.answers import same

from .traces import DRAFT, Stand

Flip = Literal["fixed", "spoilt", "moved", "kept_right", "kept_wrong"]


@dataclass(frozen=True, slots=True)
class Flips:
    """What became of one client's answers in one round of one strategy.

    `fixed`: wrong → right. `spoilt`: right → wrong. `moved`: wrong → other wrong. The rest kept their answer, or said
    the same in other words. Failed queries are those that were wrong before the round.
    """

    client: str
    round: int
    fixed: int
    spoilt: int
    moved: int
    kept_right: int
    kept_wrong: int

    @property
    def failed_before(self) -> int:
        return self.fixed + self.moved + self.kept_wrong

    @property
    def right_before(self) -> int:
        return self.spoilt + self.kept_right

    @property
    def fixed_share(self) -> float:
        """Of previously failed queries, the share put right."""
        return self.fixed / self.failed_before if self.failed_before else 0.0

    @property
    def spoilt_share(self) -> float:
        """Of queries that were right, the share spoilt."""
        return self.spoilt / self.right_before if self.right_before else 0.0


@dataclass(frozen=True, slots=True)
class Oracle:
    """The answer beside the drafts behind it, over the `items` that have drafts.

    `any_right`: some draft is right, what a perfect chooser would reach. `found`: the answer is right and no draft is.
    `missed`: some draft is right and the answer is not.
    """

    items: int
    any_right: int
    all_right: int
    right: int
    found: int
    missed: int


def flips(stands: Sequence[Stand]) -> list[Flips]:
    """One row for each client and round, in the order of their first answers; a row "all" for each round when there is
    more than one client."""
    by_client: dict[tuple[str, str], list[Stand]] = {}
    for stand in stands:
        by_client.setdefault((stand.client, stand.item), []).append(stand)
    counts: dict[tuple[str, int], Counter[Flip]] = {}
    for (client, _), rounds in by_client.items():
        ordered = sorted(rounds, key=lambda stand: stand.round)
        for before, after in pairwise(ordered):
            if after.round == before.round:  # two samples of one answer: none is a change of the other
                continue
            counts.setdefault((client, after.round), Counter())[_flip(before, after)] += 1
    rows = [_row(client, round_, count) for (client, round_), count in counts.items()]
    if len({row.client for row in rows}) < 2:
        return rows
    totals: dict[int, Counter[Flip]] = {}
    for (_, round_), count in counts.items():
        totals.setdefault(round_, Counter()).update(count)
    return [*rows, *(_row("all", round_, count) for round_, count in totals.items())]


def _flip(before: Stand, after: Stand) -> Flip:
    if before.right:
        return "kept_right" if after.right else "spoilt"
    if after.right:
        return "fixed"
    unchanged = before.answer == after.answer or same(before.answer, after.answer)
    return "kept_wrong" if unchanged else "moved"


def _row(client: str, round_: int, count: Mapping[Flip, int]) -> Flips:
    return Flips(
        client,
        round_,
        count.get("fixed", 0),
        count.get("spoilt", 0),
        count.get("moved", 0),
        count.get("kept_right", 0),
        count.get("kept_wrong", 0),
    )


def oracle(stands: Iterable[Stand], right: Mapping[str, bool]) -> Oracle:
    """`right` says of each item whether the settled answer is."""
    drafts: dict[str, list[bool]] = {}
    for stand in stands:
        if stand.round == DRAFT and stand.item in right:
            drafts.setdefault(stand.item, []).append(stand.right)
    return Oracle(
        items=len(drafts),
        any_right=sum(any(found) for found in drafts.values()),
        all_right=sum(all(found) for found in drafts.values()),
        right=sum(right[item] for item in drafts),
        found=sum(right[item] and not any(found) for item, found in drafts.items()),
        missed=sum(not right[item] and any(found) for item, found in drafts.items()),
    )
