"""How refinement changed the clients' answers, and how final answers compare with the drafts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from colm_vl.answers import same

from .client_answers import ClientAnswer

Flip = Literal["corrected", "regressed", "changed_wrong", "kept_correct", "kept_wrong"]

CORRECTED = "Corrected: wrong answers that became correct (as a share of the wrong ones)."
REGRESSED = "Regressed: correct answers that became wrong (as a share of the correct ones)."


@dataclass(frozen=True, slots=True)
class Step:
    """How a client's answer to an item changed in a round."""

    item: str
    client: str
    round: int
    flip: Flip


@dataclass(frozen=True, slots=True)
class Flips:
    """Counts of how one client's answers changed in one round of one strategy.

    `corrected`: wrong → correct. `regressed`: correct → wrong. `changed_wrong`: wrong → another wrong answer.
    `kept_correct` and `kept_wrong`: the same answer, possibly in other words.
    """

    client: str
    round: int
    corrected: int
    regressed: int
    changed_wrong: int
    kept_correct: int
    kept_wrong: int

    @property
    def wrong_before(self) -> int:
        return self.corrected + self.changed_wrong + self.kept_wrong

    @property
    def correct_before(self) -> int:
        return self.regressed + self.kept_correct

    @property
    def corrected_rate(self) -> float:
        """The share of wrong answers that became correct."""
        return self.corrected / self.wrong_before if self.wrong_before else 0.0

    @property
    def regressed_rate(self) -> float:
        """The share of correct answers that became wrong."""
        return self.regressed / self.correct_before if self.correct_before else 0.0


@dataclass(frozen=True, slots=True)
class Oracle:
    """The final answers compared with the drafts, over the `items` that have drafts.

    `any_correct`: at least one draft is correct, the accuracy of a perfect choice among the drafts. `found`: the final
    answer is correct and no draft is. `missed`: a draft is correct and the final answer is not.
    """

    items: int
    any_correct: int
    all_correct: int
    correct: int
    found: int
    missed: int


def steps(answers: Iterable[ClientAnswer]) -> Iterator[Step]:
    """The steps between the answers of each client to each item, of which all must be given together."""
    by_client: dict[tuple[str, str], list[ClientAnswer]] = {}
    for answer in answers:
        by_client.setdefault((answer.client, answer.item), []).append(answer)
    for (client, item), rounds in by_client.items():
        ordered = sorted(rounds, key=lambda answer: answer.round)
        for before, after in pairwise(ordered):
            if after.round > before.round:  # else two samples of the same round, as in self-consistency
                yield Step(item, client, after.round, _flip(before, after))


class FlipCounts:
    """Counts the steps of each client in each round."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, int], Counter[Flip]] = {}

    def add(self, step: Step) -> None:
        self._counts.setdefault((step.client, step.round), Counter())[step.flip] += 1

    def rows(self) -> list[Flips]:
        """One row per client and round, in the order of their first steps. With several clients, also one row per round
        for all of them, whose client is "all"."""
        rows = [_row(client, round_, count) for (client, round_), count in self._counts.items()]
        if len({row.client for row in rows}) < 2:
            return rows
        totals: dict[int, Counter[Flip]] = {}
        for (_, round_), count in self._counts.items():
            totals.setdefault(round_, Counter()).update(count)
        return [*rows, *(_row("all", round_, count) for round_, count in totals.items())]


def _flip(before: ClientAnswer, after: ClientAnswer) -> Flip:
    if before.correct:
        return "kept_correct" if after.correct else "regressed"
    if after.correct:
        return "corrected"
    unchanged = before.answer == after.answer or same(before.answer, after.answer)
    return "kept_wrong" if unchanged else "changed_wrong"


def _row(client: str, round_: int, count: Counter[Flip]) -> Flips:
    return Flips(
        client,
        round_,
        corrected=count["corrected"],
        regressed=count["regressed"],
        changed_wrong=count["changed_wrong"],
        kept_correct=count["kept_correct"],
        kept_wrong=count["kept_wrong"],
    )


def oracle(drafts: Mapping[str, Sequence[bool]], correct: Mapping[str, bool]) -> Oracle:
    """`drafts` maps each item to whether each of its drafts is correct, `correct` to whether its final answer is."""
    known = {item: found for item, found in drafts.items() if item in correct}
    return Oracle(
        items=len(known),
        any_correct=sum(any(found) for found in known.values()),
        all_correct=sum(all(found) for found in known.values()),
        correct=sum(correct[item] for item in known),
        found=sum(correct[item] and not any(found) for item, found in known.items()),
        missed=sum(not correct[item] and any(found) for item, found in known.items()),
    )
