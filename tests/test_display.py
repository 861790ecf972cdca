"""What the terminal shows of a team."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from colm_vl.check import Health
from colm_vl.display import health_table
from tests.teams import FIVE, scripted


@pytest.mark.parametrize(("problem", "pictures"), [("", "yes"), ("no answer", "?")])
def test_of_a_member_that_does_not_work_nothing_is_claimed(problem: str, pictures: str) -> None:
    with scripted({"one": [FIVE]}, strategy="vote") as colm:
        health = Health(colm.team.clients[0], 1.0, problem=problem)
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(health_table([health]))
    (row,) = (line for line in console.export_text().splitlines() if " one " in line)
    assert [cell.strip() for cell in row.strip("│").split("│")][4] == pictures
