"""Answers one question of a batch with all of its strategies."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from colm_vl.backend_pool import BackendPool
from colm_vl.batch.heads import Key
from colm_vl.batch.pictures import Pictures
from colm_vl.batch.questions import Row
from colm_vl.batch.scheduling import ModelSchedule, Postponed, StrategyCalls
from colm_vl.batch.stats import Account, BatchStats
from colm_vl.errors import ColmError, InputError, OutputError
from colm_vl.run import Run
from colm_vl.store import CallStore, MemoryStore
from colm_vl.strategies import Choice
from colm_vl.team import Team
from colm_vl.types import Failure, ImageInfo, Query, Trace
from processors.errors import ImageError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """`kept`: the answer is from an earlier run. `written`: the folder already contains this trace."""

    trace: Trace
    kept: bool = False
    written: bool = False


class Finished(Protocol):
    """The traces of an earlier run."""

    def finished(self, row: Row, strategy: str) -> Trace | None: ...


class Answering:
    """Answers questions with the strategies in `choices`, except those answered in an earlier run."""

    workers = 1
    """How many processes answer questions. Each answers as many at the same time as the batch allows."""

    def __init__(
        self,
        choices: Sequence[Choice],
        pool: BackendPool,
        calls: CallStore,
        earlier: Finished,
        schedule: ModelSchedule,
        stats: BatchStats,
        pictures: Pictures | None = None,
    ) -> None:
        self._choices = choices
        self._pool = pool
        self._calls = calls
        self._earlier = earlier
        self._schedule = schedule
        self._stats = stats
        self._pictures = pictures or Pictures()
        self._accounts: dict[str, Account] = {}  # of questions that wait for another pass

    def close(self) -> None:
        """Make no further calls and open no further pictures. Running calls continue."""
        self._schedule.close()
        self._pictures.close()

    def kept(self, row: Row, ended: Collection[Key] = ()) -> Sequence[Outcome] | None:
        """The result of `answer`, if it is known without waiting: an earlier run has answered the question with all
        strategies, and there are no pictures to compare. Otherwise None."""
        if row.problem or row.pictures:
            return None
        outcomes = []
        for strategy in self._wanted(row, ended):
            trace = self._earlier.finished(row, strategy)
            if trace is None or trace.images:
                return None
            outcomes.append(_kept(trace, row, ()))
        return outcomes

    async def answer(self, row: Row, ended: Collection[Key] = ()) -> Sequence[Outcome]:
        """Answer one question with all strategies, except those in `ended`. Strategies that have to wait for another
        pass are left out of the result. Raises `OutputError`; all other errors fail only this question."""
        wanted = self._wanted(row, ended)
        finished = {} if row.problem else await self._finished(row, list(wanted))
        outcomes = [*finished.values()]
        unanswered = [choice for strategy, choice in wanted.items() if strategy not in finished]
        return outcomes + await self._ask(row, unanswered) if unanswered else outcomes

    def _wanted(self, row: Row, ended: Collection[Key]) -> Mapping[str, Choice]:
        choices = {choice.team.policy.strategy: choice for choice in self._choices}
        return {strategy: choice for strategy, choice in choices.items() if Key(row.id, strategy) not in ended}

    async def _ask(self, row: Row, choices: Sequence[Choice]) -> list[Outcome]:
        try:
            if row.problem:
                raise InputError(row.problem, hint=row.hint)
            query = row.query([await self._pictures.open(picture) for picture in row.pictures])
        except (InputError, ImageError) as error:
            return [Outcome(refused(row, choice.team, error)) for choice in choices]
        return await self._asked(query, choices)

    async def _asked(self, query: Query, choices: Sequence[Choice]) -> list[Outcome]:
        memory = MemoryStore(self._calls)
        account = self._accounts.pop(query.id, None) or Account(self._stats)
        outcomes = []
        for choice in choices:
            strategy = choice.team.policy.strategy
            clock = account.clock(strategy)
            calls = StrategyCalls(strategy, memory, self._schedule, account)
            with clock.running():
                trace = await self._run(choice, Run(query, choice.team, self._pool, store=calls))
            if trace is None:
                self._accounts[query.id] = account
            else:
                outcomes.append(Outcome(clock.timed(trace) if self._schedule.staged else trace))
        return outcomes

    async def _run(self, choice: Choice, run: Run) -> Trace | None:
        """The trace, or None if the question has to wait for another pass."""
        try:
            await choice.strategy.run(run)
        except Exception as raised:
            errors = _leaves(raised)
            unwritable = next((error for error in errors if isinstance(error, OutputError)), None)
            if unwritable:
                self._schedule.close()  # the reply of any further call would be lost
                raise unwritable from None
            if any(isinstance(error, Postponed) for error in errors):
                return None
            run.record(_failure(errors[0], run.query.id))
        return run.trace()

    async def _finished(self, row: Row, strategies: Sequence[str]) -> Mapping[str, Outcome]:
        """The answers of an earlier run, by strategy, if the question and its pictures have not changed."""
        found = {strategy: trace for strategy in strategies if (trace := self._earlier.finished(row, strategy))}
        kept = {trace.images for trace in found.values()}  # usually the same for all strategies
        same = {images: await self._pictures.same(row.pictures, images) for images in kept}
        return {
            strategy: _kept(trace, row, images)
            for strategy, trace in found.items()
            if (images := same[trace.images]) is not None
        }


def _kept(trace: Trace, row: Row, images: tuple[ImageInfo, ...]) -> Outcome:
    """The answer of an earlier run, with the metadata of the row and its pictures."""
    if images == trace.images and row.metadata == trace.metadata:
        return Outcome(trace, kept=True, written=True)
    return Outcome(replace(trace, images=images, metadata=dict(row.metadata)), kept=True)


def _failure(error: Exception, question: str) -> Failure:
    if isinstance(error, ColmError):
        return Failure(None, "settle", error.kind, str(error), error.hint)
    logger.error("question %r", question, exc_info=error)
    return Failure(None, "settle", "error", f"unexpected {type(error).__name__}")


def refused(row: Row, team: Team, error: ColmError) -> Trace:
    """The trace of a question that could not be asked."""
    return Trace(
        row.question,
        team.policy.strategy,
        row.id,
        row.choices,
        members=team.infos,
        failures=(Failure(None, "select", error.kind, f"{row.where}: {error}", error.hint),),
        metadata=dict(row.metadata),
        history=row.history,
    )


def _leaves(error: Exception) -> Sequence[Exception]:
    if isinstance(error, ExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]
