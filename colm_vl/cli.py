"""The command line `colm-vl`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup
from typing_extensions import override

from colm_vl import (
    CoLM,
    ConfigError,
    InputError,
    NoAnswer,
    Team,
    Trace,
    __version__,
    merge_shards,
    pocket,
    policies,
    strategies,
    team_cli,
)
from colm_vl.batch import ANSWERS, BatchStats, answered_in
from colm_vl.batch.executors import cluster_summary, ray_options
from colm_vl.batch.options import RayOption, WorkerCpusOption, WorkerGpusOption, WorkersOption
from colm_vl.batch.progress import BatchProgress, batch_summary, merge_summary, plan_summary
from colm_vl.batch.questions import read_columns
from colm_vl.display import Conversation, summary
from colm_vl.engine import answered
from colm_vl.errors import MissingPackage
from colm_vl.events import Event
from colm_vl.extras import part
from colm_vl.mcp import cli as mcp_cli
from colm_vl.service import cli as service_cli
from colm_vl.terminal import BAD_INPUT, INTERRUPTED, NOT_ANSWERED, DebugOption, json_text, run, set_up_logging, tell

_USER_ERRORS = frozenset({ConfigError.kind, MissingPackage.kind, InputError.kind})


class _Commands(TyperGroup):
    """Finds commands of two words, such as `batch merge`, before those of one."""

    @override
    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        two_words = " ".join(args[:2])
        return super().resolve_command(ctx, [two_words, *args[2:]] if two_words in self.commands else args)


app = typer.Typer(
    name="colm-vl",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Small vision-language models draft answers, a large one guides them, and each refines its own answer.",
    epilog="Without --team, the pocket team answers: four tiny models that only understand a small world of drawings.",
)
app.add_typer(team_cli.app, name="team")

_STRATEGY_HELP = "How the answer is reached: " + "; ".join(
    f"{name} ({s.summary})" for name, s in strategies.known().items()
)

TeamOption = Annotated[Path | None, typer.Option("--team", "-t", help="A team file. Default: the pocket team.")]
StrategyOption = Annotated[str | None, typer.Option("--strategy", "-s", help=_STRATEGY_HELP)]


ClientOption = Annotated[str | None, typer.Option("--client", help="Use this client's answer instead of a vote.")]
RoundsOption = Annotated[int | None, typer.Option(help="Rounds of guidance and refinement.")]
TopKOption = Annotated[int | None, typer.Option("--top-k", help="Ask only the K clients that suit the question best.")]
ShareOption = Annotated[str | None, typer.Option(help="What the server may see: images, thumbnails or captions.")]
GateOption = Annotated[
    str | None, typer.Option(help="When the server is asked: always, disagreement, or confidence=0.8.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set a policy key (listed below). Repeatable."),
]


MapOption = Annotated[
    str,
    typer.Option(
        "--map",
        metavar="FIELD=COLUMN,…",
        help="Columns of the file with other names, as in question=query,images=picture.",
    ),
]

ShardOption = Annotated[
    str,
    typer.Option(
        metavar="INDEX/COUNT", help="Answer one of several parts of the questions, such as 3/16. See `batch merge`."
    ),
]


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(f"colm-vl {__version__}")
        raise typer.Exit


@app.command(epilog=policies.as_help())
def ask(
    question: Annotated[str, typer.Option("--question", "-q", help="The question, or - to read it from stdin.")],
    image: Annotated[list[str] | None, typer.Option("--image", "-i", help="A picture file. Repeatable.")] = None,
    choice: Annotated[
        list[str] | None, typer.Option("--choice", "-c", help="One choice of a multiple-choice question. Repeatable.")
    ] = None,
    team: TeamOption = None,
    strategy: StrategyOption = None,
    client: ClientOption = None,
    rounds: RoundsOption = None,
    top_k: TopKOption = None,
    share: ShareOption = None,
    gate: GateOption = None,
    settings: SetOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the trace as JSON, and nothing else.")] = False,
    debug: DebugOption = False,
) -> None:
    """Ask one question, with or without pictures, and show each model's replies as they are written.

    [bold]colm-vl ask -q "How many red circles?" --image shapes.png[/bold]
    """
    set_up_logging(debug)
    policy = _policy(settings, strategy=strategy, asker=client, rounds=rounds, top_k=top_k, share=share, gate=gate)
    question = _read_question() if question == "-" else question
    with CoLM.from_team(team, **policy) as colm:
        events = colm.stream(question, image or (), choices=choice or ())
        if as_json:
            trace = next(event for event in events if isinstance(event, Trace))
            typer.echo(json_text(trace.to_dict()))
        else:
            trace = _watch(colm.team, events)
    if trace.settlement is None:
        raise typer.Exit(_tell_unanswered(trace))


@app.command(epilog=policies.as_help())
def batch(
    questions: Annotated[
        Path,
        typer.Argument(
            help="A JSONL, CSV, TSV or Parquet file, or a folder of save_to_disk, with the fields question and, "
            "optionally, id, images, choices."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Output folder for calls, traces and answers.")
    ] = None,
    team: TeamOption = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            "--strategy", "-s", help="One strategy, or several separated by commas (solo,vote,colm). Drafts are shared."
        ),
    ] = None,
    client: ClientOption = None,
    rounds: RoundsOption = None,
    top_k: TopKOption = None,
    share: ShareOption = None,
    gate: GateOption = None,
    settings: SetOption = None,
    concurrency: Annotated[
        int, typer.Option("--concurrency", "-j", min=1, help="Questions processed at the same time.")
    ] = 16,
    limit: Annotated[int | None, typer.Option(min=1, help="Process only the first N questions.")] = None,
    mapping: MapOption = "",
    shard: ShardOption = "",
    ray: RayOption = "",
    workers: WorkersOption = None,
    worker_gpus: WorkerGpusOption = None,
    worker_cpus: WorkerCpusOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Report the number of calls and tokens without calling any model.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start over. The folder's content is moved to FOLDER.1, .2, …")
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Answer many questions concurrently. An interrupted run resumes where it stopped.

    [bold]colm-vl batch questions.jsonl --out runs/charts[/bold]

    Run the same command again to resume. Finished calls are not repeated; failed questions are retried.

    If the server or a prompt has changed, only the calls affected are made again.
    Previous answers are kept beside the folder, in FOLDER.1, FOLDER.2 and so on.
    A folder is refused if it was made with other clients, another order of them, other questions or another policy.
    To reuse finished calls in a new folder, copy calls.jsonl into it first.

    Exit status: 0 if all are answered, 1 if some failed, 2 for bad input, 130 if interrupted.
    """
    set_up_logging(debug)
    first = strategy.split(",")[0] if strategy else None
    policy = _policy(settings, strategy=first, asker=client, rounds=rounds, top_k=top_k, share=share, gate=gate)
    cluster = ray_options(ray, workers, worker_gpus, worker_cpus)
    with CoLM.from_team(team, **policy) as colm:
        columns = read_columns(mapping)
        plan = colm.plan(questions, strategy=strategy, limit=limit, columns=columns, shard=shard or None)
        if dry_run:
            typer.echo(plan_summary(plan, answered_in(out) if out else 0))
            if cluster is not None:
                typer.echo(cluster_summary(cluster, colm.team, concurrency))
            return
        if out is None:
            raise ConfigError("--out is missing", hint="name a folder for calls, traces and answers")
        stats = BatchStats()
        traces = colm.batch(
            questions, out, strategy=strategy, concurrency=concurrency, limit=limit, columns=columns,
            shard=shard or None, ray=cluster, fresh=fresh, stats=stats,
        )  # fmt: skip
        with BatchProgress(Console(stderr=True, highlight=False, soft_wrap=True), stats, plan) as progress:
            try:
                for _ in traces:
                    pass
            except KeyboardInterrupt:
                interrupted = True
            else:
                interrupted = False
    typer.echo(batch_summary(stats, progress.seconds))
    typer.echo(
        f"answers of shard {shard}: join them with `colm-vl batch merge {out}`"
        if shard
        else f"answers: {out / ANSWERS}"
    )
    if interrupted:
        typer.echo("interrupted: run the same command again to resume", err=True)
        raise typer.Exit(INTERRUPTED)
    if stats.failed:
        raise typer.Exit(NOT_ANSWERED)


@app.command("batch merge")
def merge(
    folder: Annotated[Path, typer.Argument(help="The run folder of the shards.")],
    others: Annotated[
        list[Path] | None, typer.Argument(help="Run folders of shards that had other folders.", show_default=False)
    ] = None,
) -> None:
    """Join the answers of shards, in the order of the questions.

    [bold]for i in 1 2 3; do colm-vl batch questions.jsonl --out runs/x --shard $i/3 & done; wait[/bold]
    [bold]colm-vl batch merge runs/x[/bold]

    The content of the first folder's shards is moved to its own files. The content of other folders is copied to the
    first one. The merge can be repeated: after an interruption, or when further shards have ended.

    Exit status: 0 if all questions are answered, 1 if some failed or are missing, 2 if a shard is still running or the
    folders do not belong together.
    """
    merged = merge_shards(folder, *(others or ()))
    typer.echo(merge_summary(merged))
    if not merged.complete:
        raise typer.Exit(NOT_ANSWERED)


# Importing these modules is fast: they import the packages of an extra only when a command runs.
app.add_typer(part("eval.cli").app, name="eval")
app.command("serve", help=service_cli.HELP)(service_cli.serve)
app.add_typer(service_cli.keys_app, name="keys")
app.command("usage")(service_cli.usage)
app.command("mcp", help=mcp_cli.HELP)(mcp_cli.serve)
app.command("page", help=part("demos.image_qa").HELP)(part("demos.image_qa").serve)


def main() -> None:
    """The console script."""
    run(app)


def _watch(team: Team, events: Iterable[Event]) -> Trace:
    console = Console(highlight=False)
    if team.is_pocket:
        console.print(Text(pocket.NOTE, style="dim"))
    with Conversation(console) as conversation:
        for event in events:
            if isinstance(event, Trace):
                break
            conversation.show(event)
    assert isinstance(event, Trace)
    console.print()
    console.print(summary(event))
    return event


def _read_question() -> str:
    """Read bytes, so that text in another encoding is reported rather than guessed at."""
    if sys.stdin is None:
        raise InputError("standard input is closed", hint="give the question with -q")
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"the question on standard input is not UTF-8 text, from byte {error.start + 1} on",
            hint="write it in UTF-8 (iconv -f latin1 -t utf-8)",
        ) from None


def _tell_unanswered(trace: Trace) -> int:
    try:
        answered(trace)
    except NoAnswer as error:
        tell(str(error), error.hint)
    kinds = {failure.kind for failure in trace.failures}
    return BAD_INPUT if kinds and kinds <= _USER_ERRORS else NOT_ANSWERED


def _policy(settings: Iterable[str] | None, **options: Any) -> dict[str, Any]:
    """The policy fields given on the command line, by their own options or with --set."""
    changes = policies.read_settings(settings or ())
    given = {name: value for name, value in options.items() if value is not None}
    if twice := sorted(changes.keys() & given.keys()):
        raise ConfigError(f"{twice[0]} is given twice: with --set and with its own option", hint="give it once")
    return changes | given


if __name__ == "__main__":
    main()
