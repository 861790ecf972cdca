"""`CoLMActor`: a team as a stage of a pipeline of Ray Data."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from colm_vl.batch.pictures import Pictures
from colm_vl.batch.questions import Row, row_of
from colm_vl.engine import AsyncCoLM
from colm_vl.errors import ColmError, InputError
from colm_vl.team import Team


class CoLMActor:
    """Answers the questions of a batch of rows.

        dataset.map_batches(
            CoLMActor, fn_constructor_kwargs={"team": "team.toml"}, batch_size=16, concurrency=4, num_gpus=1
        )

    `team` is a team or its file, by default the pocket team; `policy` overrides fields of its policy. Rows have the
    fields of `CoLM.batch`. Each gets the columns `colm_answer`, `colm_choice` (a letter, or "") and `colm_error`, "" if
    there is an answer: one bad row fails no other. Nothing is stored: for a run that can be resumed, use `CoLM.batch`.
    """

    def __init__(self, team: Team | str | Path | None = None, policy: Mapping[str, Any] | None = None) -> None:
        members = team if isinstance(team, Team) else Team.load(team) if team is not None else Team.pocket()
        self._colm = AsyncCoLM(members.with_policy(**policy) if policy else members)
        self._pictures = Pictures(remote=True)

    async def __call__(self, batch: Mapping[str, Any]) -> AsyncGenerator[Mapping[str, Any], None]:
        count = len(next(iter(batch.values()), ()))
        rows = [{name: column[number] for name, column in batch.items()} for number in range(count)]
        answers = await asyncio.gather(*(self._answer(row_of(row, number)) for number, row in enumerate(rows, 1)))
        yield {
            **batch,
            "colm_answer": [answer.text for answer in answers],
            "colm_choice": [answer.choice for answer in answers],
            "colm_error": [answer.error for answer in answers],
        }

    async def _answer(self, row: Row) -> _Answer:
        try:
            if row.problem:
                raise InputError(row.problem)
            trace = await self._colm.ask(row.query([await self._pictures.open(one) for one in row.pictures]))
        except ColmError as error:
            return _Answer(error=str(error))
        return _Answer(trace.answer, trace.choice or "")


class _Answer(NamedTuple):
    text: str = ""
    choice: str = ""
    error: str = ""
