"""Verdicts of a model that grades answers by a rubric."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, PrivateAttr
from rich.console import Console
from rich.progress import Progress
from typing_extensions import override

from colm_vl._portal import Portal
from colm_vl.backend_pool import BackendPool
from colm_vl.batch import CALLS
from colm_vl.batch.journal import Journal
from colm_vl.batch.locking import locked
from colm_vl.errors import BadReply, ConfigError
from colm_vl.run import Run
from colm_vl.store import CallStore, CallsUnderWay
from colm_vl.team import Member, Team
from colm_vl.types import Failure, Query, Stage

from .base import Answered, BatchMetric
from .judging import RUBRIC, prompt, read_grade

logger = logging.getLogger(__name__)

_STAGE: Stage = "verdict"


class Judge(BatchMetric):
    """The judge reads the question, its choices, the accepted answers and the reply, but no pictures. Its verdicts are
    kept in a journal, so that the same reply is judged once."""

    note = "a model's verdict by a rubric: 1 for correct, 0.5 for partly correct, 0 for incorrect"
    source = "reference-guided grading by a model (arXiv 2306.05685)"

    team: Path = Field(description="team file with the judge")
    member: str = Field(default="", description="name of the judge; by default the server, or the only client")
    rubric: Path | None = Field(default=None, description="text file with a rubric of your own")
    concurrency: int = Field(default=16, ge=1, description="number of calls at a time")

    _team: Team = PrivateAttr()
    _judge: Member = PrivateAttr()
    _rubric: str = PrivateAttr()

    @override
    def model_post_init(self, context: Any) -> None:
        """Raises `ConfigError` for files that cannot be used, and for a member that does not exist."""
        self._team = Team.load(self.team)
        self._judge = _member(self._team, self.member)
        self._rubric = _text(self.rubric) if self.rubric else RUBRIC

    @override
    def grade_all(self, answers: Sequence[Answered], folder: Path | None) -> Sequence[float | None]:
        different = list(dict.fromkeys(answers))
        with _store(folder) as store:
            verdicts = dict(zip(different, self._judged(different, store), strict=True))
        failed = [verdict for verdict in verdicts.values() if isinstance(verdict, Failure)]
        if failed:
            logger.warning(
                "metric judge: no verdict on %d of %d different replies; the first: %s",
                len(failed),
                len(different),
                failed[0].message,
            )
        return [None if isinstance(verdict := verdicts[answer], Failure) else verdict for answer in answers]

    def _judged(self, answers: Sequence[Answered], store: CallStore) -> Sequence[float | Failure]:
        pool = BackendPool()
        portal = Portal(pool.aclose)
        console = Console(stderr=True)
        try:
            with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
                task = progress.add_task("verdicts", total=len(answers))
                return portal.run(self._all, answers, _Calls(pool, store), lambda: progress.advance(task))
        finally:
            portal.close()

    async def _all(
        self, answers: Sequence[Answered], calls: _Calls, done: Callable[[], None]
    ) -> Sequence[float | Failure]:
        limit = asyncio.Semaphore(self.concurrency)

        async def one(answered: Answered) -> float | Failure:
            async with limit:
                verdict = await self._verdict(answered, calls)
            done()
            return verdict

        return await asyncio.gather(*map(one, answers))

    async def _verdict(self, answered: Answered, calls: _Calls) -> float | Failure:
        run = Run(Query(answered.question), self._team, calls.pool, store=calls.store)
        asked = prompt(answered, self._rubric, self._team.reply_format_of(self._judge))
        reply = await run.call(self._judge, _STAGE, asked)
        if isinstance(reply, Failure):
            return reply
        grade = read_grade(reply.text)
        if grade is None:
            said = f"{self._judge.name}: no verdict in its reply {reply.text.strip()[:80]!r}"
            return Failure(self._judge.name, _STAGE, BadReply.kind, said, "choose a larger judge")
        return grade


@dataclass(frozen=True, slots=True)
class _Calls:
    pool: BackendPool
    store: CallStore


@contextmanager
def _store(folder: Path | None) -> Iterator[CallStore]:
    """The journal in the folder."""
    if folder is None:
        yield CallsUnderWay()
        return
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        journal = Journal(folder / CALLS)
        try:
            yield journal
        finally:
            journal.close()


def _member(team: Team, name: str) -> Member:
    if name:
        found = next((member for member in team.members if member.name == name), None)
        if found is None:
            known = ", ".join(member.name for member in team.members)
            raise ConfigError(f"metric judge: no member is called {name!r}", hint=f"{team.source} has {known}")
    elif team.server:
        found = team.server
    elif len(team.clients) == 1:
        found = team.clients[0]
    else:
        raise ConfigError(f"metric judge: {team.source} has no server", hint="name the judge with judge,member=NAME")
    if found.options.is_guide:
        raise ConfigError(f"metric judge: {found.name} is a guidance service", hint="choose a model")
    return found


def _text(path: Path) -> str:
    try:
        text = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"metric judge: rubric {path} cannot be read", hint="give a text file in UTF-8") from None
    if not text:
        raise ConfigError(f"metric judge: rubric {path} is empty", hint="say what is correct, partly and incorrect")
    return text


METRIC = Judge
