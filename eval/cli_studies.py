"""The commands `ablate`, `calibrate` and `capacity`, which study a team beyond one run."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from colm_vl.errors import InputError

from .ablations.kinds import Ablation
from .cli_options import (
    ConcurrencyOption,
    DataOption,
    LimitOption,
    SplitOption,
    SubjectsOption,
    TeamOption,
    counts,
    factors,
    numbers,
    show,
    split_commas,
)
from .types import Rule


def ablate(
    kind: Annotated[Ablation, typer.Argument(help="What to change.")],
    out: Annotated[
        Path, typer.Option(help="The folder of the runs and the report. Running the same command again resumes.")
    ],
    benchmark: Annotated[str, typer.Argument(help="A name from `colm-vl eval list`.")] = "pocket",
    data: DataOption = None,
    team: TeamOption = None,
    split: SplitOption = "",
    subjects: SubjectsOption = "",
    limit: LimitOption = None,
    concurrency: ConcurrencyOption = 16,
    max_rounds: Annotated[int, typer.Option(min=1, max=10, help="For rounds: the maximum number of rounds.")] = 3,
    all_subsets: Annotated[
        bool, typer.Option("--all-subsets", help="For clients: test every subset of the clients, not only the first N.")
    ] = False,
    misguided: Annotated[
        str, typer.Option(help="For server: shares of the questions that get the guidance for another question.")
    ] = "0.25,0.5,1",
    smaller: Annotated[Path | None, typer.Option(help="For server: a team file with a smaller server model.")] = None,
    latency: Annotated[str, typer.Option(help="For network: one-way latencies in milliseconds.")] = "5,50,200",
    bandwidth: Annotated[str, typer.Option(help="For network: bandwidths in Mbit/s.")] = "1,10,100",
    askers: Annotated[
        str, typer.Option(help="For load: numbers of askers, each of whom asks one question after the other.")
    ] = "1,2,4,8,16,32,64",
    seconds: Annotated[float, typer.Option(min=1, help="For load: the time to measure each number of askers.")] = 20,
    places: Annotated[int, typer.Option(min=1, help="For load: how many requests the server answers at a time.")] = 1,
    slow: Annotated[
        str, typer.Option(metavar="NAME=FACTOR,…", help="For load: clients on slower hardware, as in shapes=4.")
    ] = "",
    gates: Annotated[
        str, typer.Option(help="For load: gates of colm, each as a setup of its own.")
    ] = "disagreement,confidence=0.9",
    replay_server: Annotated[
        bool,
        typer.Option(
            "--replay-server",
            help="For load: compute each reply of the server once, and repeat it after the same time, so that other "
            "load on this machine does not change what it can answer.",
        ),
    ] = False,
    stub: Annotated[
        bool, typer.Option("--stub", help="For load: stub endpoints on loopback in place of a team and a benchmark.")
    ] = False,
) -> None:
    """Change one thing about the method or the team, and measure the difference."""
    from colm_vl.team import Team

    from .ablations.study import study
    from .ablations.variants import AblationSettings
    from .benchmarks.registry import find
    from .evaluator import plan
    from .report.write import write_document

    if stub and kind is not Ablation.LOAD:
        raise InputError("--stub is for load", hint="leave it out")
    planned = plan(find(benchmark), data, split, split_commas(subjects), limit)
    members = Team.load(team) if team else Team.pocket()
    if kind is Ablation.LOAD:
        from .ablations.load import load_study, stub_study
        from .ablations.load_values import LoadSettings

        load = LoadSettings(
            counts("askers", askers), seconds, places, factors(slow), tuple(split_commas(gates)), replay_server
        )
        tell = partial(typer.echo, err=True)
        result = stub_study(out, load, tell) if stub else load_study(members, planned, out, load, tell)
    elif kind is Ablation.NETWORK:
        from .ablations.network import Links, network_study

        lines = Links(numbers("latency", latency), numbers("bandwidth", bandwidth))
        result = network_study(members, planned, out, lines)
    else:
        shares = numbers("misguided", misguided)
        settings = AblationSettings(max_rounds, all_subsets, shares, smaller)
        result = study(kind, members, planned, out, settings, concurrency=concurrency)
    for path in write_document(result.content, out, result.data, kind.value):
        typer.echo(path)


def calibrate(
    run: Annotated[Path, typer.Argument(help="A run folder in which the server was always asked.")],
    risk: Annotated[
        float, typer.Option(min=0.0001, max=0.5, help="The share of accuracy that skipping the server may lose.")
    ] = 0.02,
    confidence: Annotated[
        float, typer.Option(min=0.5, max=0.9999, help="The probability that the guarantee holds.")
    ] = 0.95,
    group_column: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Certify each group of this column. Repeatable.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The certificate to write.")] = Path("gate.json"),
    strategy: Annotated[str, typer.Option(help="The strategy of the run.")] = "colm",
    rule: Annotated[Rule, typer.Option(help="How replies are parsed and scored.")] = Rule.STRICT,
) -> None:
    """Calibrate a gate on the answers of a run, so that it skips the server at a certified risk.

    To use it, set gate = { calibrated = "gate.json" } in the table policy of the team file.
    """
    from .calibration.certify import Promise, write_calibration
    from .calibration.certify import calibrate as calibrate_run
    from .run_folder import read_evaluation
    from .tables import certificate_table

    promise = Promise(risk, confidence, group_column or ())
    result = calibrate_run(read_evaluation(run), promise, strategy=strategy, rule=rule)
    write_calibration(result, out, run)
    console = Console()
    console.print(certificate_table(result))
    console.print(f'Written to {out}. Use it with \\[policy] gate = {{ calibrated = "{out.name}" }}')


def capacity(
    run: Annotated[Path, typer.Argument(help="A run folder in which the server was asked in every question.")],
    arrivals: Annotated[
        str, typer.Option(metavar="RATE", help="Questions of all clients together: 5/s, 200/min, 4/h or 1000/day.")
    ],
    target_p95: Annotated[
        float, typer.Option(min=0.001, help="The time in seconds within which 95 % of the questions are answered.")
    ],
    clients: Annotated[int, typer.Option(min=1, help="The number of client devices, up to millions.")] = 1000,
    places: Annotated[
        int, typer.Option(min=1, help="How many requests one server answers at a time, in the times of the run.")
    ] = 1,
    slow: Annotated[
        str, typer.Option(metavar="NAME=FACTOR,…", help="Clients on slower hardware than that of the run.")
    ] = "",
    strategy: Annotated[str, typer.Option(help="The strategy of the run.")] = "colm",
    out: Annotated[Path | None, typer.Option(help="A folder for a report with a plot.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
) -> None:
    """Simulate how many servers answer 95 % of the questions in time, for each gate.

    It takes the times of the calls of a run, and each gate's decisions on
    its drafts. Make the run with as many questions at a time as one server
    answers, such as colm-vl eval run FILE --concurrency 1 --out RUN. The
    output tells what is measured from what is simulated.

    Example: colm-vl eval capacity runs/mine --arrivals 5/s --clients 1000 --target-p95 8
    """
    from .capacity.plan import Promise, curve, plan_capacity
    from .capacity.rates import read_rate
    from .capacity.report import as_json as plan_as_json
    from .capacity.report import document
    from .capacity.simulation import Load
    from .report.document import to_terminal
    from .report.write import write_document
    from .run_folder import read_evaluation

    promise = Promise(Load(read_rate(arrivals), clients), target_p95, places)
    evaluation = read_evaluation(run)
    plan = plan_capacity(evaluation, strategy, promise, factors(slow), partial(typer.echo, err=True))
    points = list(curve(plan)) if out else []
    shown, data = document(evaluation.label, plan, points), plan_as_json(plan, points)
    show(as_json, data, to_terminal(shown))
    if out:
        for path in write_document(shown, out, data, "capacity"):
            typer.echo(path, err=as_json)
