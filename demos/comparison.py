"""A question that is asked again with several strategies."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from colm_vl import Trace

from . import costs, draw
from .service import Asked, Service


@dataclass(frozen=True, slots=True)
class Comparison:
    """`truth` is the right answer, if it is known. `blind`: the answers are shown without the names first."""

    asked: Asked
    truth: str
    strategies: Sequence[str]
    blind: bool

    async def run(self, service: Service, visit: str) -> AsyncGenerator[str, None]:
        """Yield the table each time it has changed. Raises what `Service.compare` raises."""
        yield self._table([])
        done: list[Trace] = []
        async with aclosing(service.compare(visit, self.asked, self.strategies)) as progress:
            async for done in progress:
                yield self._count(done) if self.blind else self._table(done)
        if len(done) < len(self.strategies):
            rest = draw.tag("p", "Stopped before all strategies had answered.", "cv-aside")
            yield costs.comparison(costs.compared(done), self.truth) + rest
        elif self.blind:
            yield costs.blind_comparison(done) + draw.disclosed("Show which is which", self._table(done))

    def _table(self, done: Sequence[Trace]) -> str:
        return costs.comparison(costs.compared(done), self.truth, self.strategies[len(done) :])

    def _count(self, done: Sequence[Trace]) -> str:
        words = f"{len(done)} of {len(self.strategies)} strategies have answered"
        return draw.tag("p", words, "cv-idle cv-busy", role="status")


__all__: Sequence[str] = ["Comparison"]
