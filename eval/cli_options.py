"""Options that several commands of `colm-vl eval` have, how they are read, and how results are shown."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType

from colm_vl.errors import InputError

BenchmarkOrFile = Annotated[
    str,
    typer.Argument(
        metavar="BENCHMARK|FILE",
        help="A name from `colm-vl eval list`, or a file of questions as for `colm-vl batch`, with gold answers.",
    ),
]
DataOption = Annotated[
    Path | None, typer.Option(help="The folder or file of the benchmark; by default downloaded from the hub.")
]
TeamOption = Annotated[Path | None, typer.Option(help="A team file; by default the pocket team.")]
SubjectsOption = Annotated[str, typer.Option(help="Subjects, separated by commas; by default all.")]
LimitOption = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Process only a random sample of N questions, the same every time."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="A key of the policy, such as rounds=2; can be given several times."
    ),
]
ShardOption = Annotated[
    str, typer.Option(metavar="INDEX/COUNT", help="Ask one of several parts of the questions, such as 3/16.")
]
ConcurrencyOption = Annotated[int, typer.Option(min=1, help="Number of questions processed at a time.")]
SplitOption = Annotated[str, typer.Option(help="The split; by default the benchmark's first.")]

MetricOption = Annotated[
    str,
    typer.Option(
        help="For a file: choice, exact, contains, numeric, anls, vqa, f1, math, judge, or module:function; settings "
        "follow, as in numeric,relative=0.01 or judge,team=team.toml. By default choice for questions with choices, "
        "vqa for ten gold answers, numeric for numbers, else exact."
    ),
]
AnswerColumnOption = Annotated[str, typer.Option(help="For a file: the column of the gold answers.")]
GroupColumnOption = Annotated[
    list[str] | None,
    typer.Option(help="For a file: a column to break the result down by; can be given several times."),
]

ReplyColumnOption = Annotated[
    str, typer.Option(help="The column of predictions that holds the replies; by default the first known one.")
]


MapOption = Annotated[
    str,
    typer.Option(
        "--map",
        metavar="FIELD=COLUMN,…",
        help="For a file: its columns with other names, as in question=query,images=picture.",
    ),
]


def show(as_json: bool, data: dict[str, Any], tables: Iterable[RenderableType]) -> None:
    if as_json:
        typer.echo(json.dumps(data, indent=1))
        return
    console = Console()
    for part in tables:
        console.print(part)


def numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in split_commas(text))
    except ValueError:
        raise InputError(f"--{option} {text!r}: expected numbers", hint="separate them by commas") from None


def counts(option: str, text: str) -> tuple[int, ...]:
    parts = split_commas(text)
    if not parts or not all(part.isdecimal() and int(part) for part in parts):
        raise InputError(f"--{option} {text!r}: expected whole numbers from 1", hint="separate them by commas")
    return tuple(sorted(set(map(int, parts))))


def factors(text: str) -> dict[str, float]:
    """Factors by client."""
    found: dict[str, float] = {}
    for part in split_commas(text):
        name, _, factor = part.partition("=")
        try:
            found[name.strip()] = float(factor)
        except ValueError:
            found[name.strip()] = math.nan
        if not 0 < found[name.strip()] < math.inf:
            raise InputError(f"--slow {part!r}: expected a client and a factor above 0", hint="such as --slow shapes=4")
    return found


def split_commas(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
