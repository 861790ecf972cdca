"""Chooses the pocket team's examples on the page, by what the team answers.

    python -m demos.choose_examples

Asks fresh questions of the pocket world, and writes examples that show the method, and one that the team answers
wrongly, to `pocket_examples.json`. Run it again when the weights have changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Annotated

import typer

from colm_vl import CoLM, Query, Trace
from colm_vl.pocket import world
from colm_vl.pocket.scenes import DOMAINS
from processors.images import Image

from .examples import POCKET_FILE, Kind, weights_digest
from .history import Entry
from .messages import for_visitors
from .view import View, thumbnails

KINDS: Sequence[Kind] = ("guided", "guided", "guided", "agree", "agree", "wrong")
"""The kinds of the examples, in the order of the page. Each has a domain of its own."""


@dataclass(frozen=True, slots=True)
class Candidate:
    domain: str
    seed: int
    trace: Trace

    @property
    def sample(self) -> world.Sample:
        return next(world.generate(self.seed, 1, self.domain))

    @property
    def kind(self) -> Kind | None:
        """None if it shows nothing clearly."""
        view = View.from_trace(self.trace, truth=self.sample.answer_text)
        final = [reply.answer for reply in self.trace.final.values()]
        drafts = [draft.answer for draft in self.trace.drafts]
        if self.trace.degraded or len(final) < len(view.clients) or not all((*final, *drafts)):
            return None
        if not view.is_right(self.trace.answer):
            return "wrong"
        if not all(map(view.is_right, final)):
            return None
        if all(map(view.is_right, drafts)):
            return "agree"
        return "guided" if not view.is_right(view.vote_of_drafts) else None

    @property
    def clarity(self) -> float:
        """How well it shows its kind, from 0 to 1: with a high confidence of every client, or a low one in a wrong
        answer."""
        values = [reply.confidence.value or 0.0 for reply in self.trace.final.values()]
        return 1 - max(values) if self.kind == "wrong" else min(values)


def choose(
    seeds: Annotated[int, typer.Option(help="Questions to ask in each domain.", min=1)] = 40,
    first: Annotated[int, typer.Option(help="The first seed.", min=0)] = 0,
    file: Annotated[Path, typer.Option(help="The file to write.")] = POCKET_FILE,
) -> None:
    """Choose the examples and write them, with the trace of the first one."""
    with CoLM.from_team() as colm:
        found = _best(_candidates(colm, range(first, first + seeds)))
        chosen = _one_of_each_domain(found)
        # Alone rather than in a batch, as visitors ask: the arithmetic of a batch differs in the last digits.
        again = [Candidate(one.domain, one.seed, colm.ask(_query(one.domain, one.seed))) for one in chosen]
    for before, after in zip(chosen, again, strict=True):
        if before.kind != after.kind:
            message = f"{after.domain}, seed {after.seed}: {before.kind} in a batch, {after.kind} alone"
            raise typer.BadParameter(f"{message}; try another --first")
    file.write_text(json.dumps(_written(again), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    for one in again:
        typer.echo(f"{one.kind}: {one.sample.question} {one.trace.answer!r} (seed {one.seed}, {one.clarity:.2f})")


def _query(domain: str, seed: int) -> Query:
    sample = next(world.generate(seed, 1, domain))
    pictures = tuple(Image.open(picture) for picture in sample.pictures)
    return Query(sample.question, pictures, sample.choices, id=f"{domain} {seed}")


def _candidates(colm: CoLM, seeds: Sequence[int]) -> Iterator[Candidate]:
    queries = [_query(domain, seed) for domain in DOMAINS for seed in seeds]
    for trace in colm.batch(queries, concurrency=32):
        domain, seed = trace.id.split()
        yield Candidate(domain, int(seed), trace)


def _best(candidates: Iterator[Candidate]) -> Mapping[tuple[str, Kind], Candidate]:
    """The clearest candidate of each domain and kind."""
    best: dict[tuple[str, Kind], Candidate] = {}
    for one in candidates:
        if one.kind is None:
            continue
        known = best.get((one.domain, one.kind))
        if known is None or known.clarity < one.clarity:
            best[one.domain, one.kind] = one
    return best


def _one_of_each_domain(found: Mapping[tuple[str, Kind], Candidate]) -> Sequence[Candidate]:
    """Assign a domain to each of `KINDS` so that the least clear example is as clear as possible."""
    ways = [
        [found[pair] for pair in zip(order, KINDS, strict=True)]
        for order in permutations(DOMAINS)
        if all(pair in found for pair in zip(order, KINDS, strict=True))
    ]
    if not ways:
        raise typer.BadParameter("too few questions show what is wanted; try more --seeds")
    return max(ways, key=lambda way: (min(one.clarity for one in way), sum(one.clarity for one in way)))


def _written(chosen: Sequence[Candidate]) -> Mapping[str, object]:
    first = chosen[0]
    images = _query(first.domain, first.seed).images
    entry = Entry(for_visitors(first.trace), thumbnails(images), first.sample.answer_text)
    return {
        "weights": weights_digest(),
        "examples": [{"kind": one.kind, "domain": one.domain, "seed": one.seed} for one in chosen],
        "finished": entry.to_dict(),
    }


if __name__ == "__main__":
    typer.run(choose)
