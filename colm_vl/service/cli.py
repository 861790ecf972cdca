"""The commands `colm-vl serve` and `colm-vl keys`. Packages of the extra are imported when `serve` runs."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from colm_vl._startup import check_keys
from colm_vl._tables import validate
from colm_vl.errors import ConfigError
from colm_vl.extras import require
from colm_vl.service import keys
from colm_vl.service.keys import KeyRing, QuotaTable
from colm_vl.service.settings import LogFormat, Settings
from colm_vl.team import Team

HELP = """Serve the team as an OpenAI-compatible vision model.

Without --team, the pocket team answers: tiny models that only understand a small world of drawn pictures.

    colm-vl serve --team team.toml --port 8700

Without --keys, only this machine can use the service. To serve others, make a key for each of them (colm-vl keys \
add), and pass the file:

    colm-vl serve --team team.toml --host 0.0.0.0 --keys keys.toml
"""

keys_app = typer.Typer(no_args_is_help=True, help="Make, list and revoke the keys of colm-vl serve.")

KeysOption = Annotated[Path, typer.Option("--keys", help="The file of keys.")]
_KEYS = Path("keys.toml")


def serve(
    team: Annotated[Path | None, typer.Option("--team", "-t", help="A team file. Default: the pocket team.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 chooses a free one.", min=0, max=65535)] = 8700,
    key_file: Annotated[
        Path | None, typer.Option("--keys", help="The file of keys. Without it, only this machine can use the service.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file of limits (docs/service.md lists them).")] = None,
    ledger: Annotated[
        Path | None, typer.Option(help="An SQLite file with one row for each request; see colm-vl usage.")
    ] = None,
    mcp: Annotated[bool, typer.Option("--mcp", help="Offer the team also as a tool to MCP clients, at /mcp.")] = False,
    log_format: Annotated[LogFormat, typer.Option(help="The form of log lines, on standard error.")] = "text",
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and debug logs.")] = False,
) -> None:
    require("fastapi", "serve")
    require("uvicorn", "serve")
    require("prometheus_client", "serve")
    from colm_vl.service import logs, server, telemetry
    from colm_vl.service.context import Service
    from colm_vl.service.ledger import Ledger

    logs.set_up(log_format, debug=debug)
    ring = KeyRing(key_file) if key_file else None
    settings, members = Settings.load(config) if config else Settings(), Team.load(team) if team else Team.pocket()
    check_keys(members)
    if mcp or settings.mcp:
        require("mcp", "mcp")
        settings = settings.model_copy(update={"mcp": True})
    with ExitStack() as stack:
        listener = stack.enter_context(server.listen(host, port, keys=ring is not None))
        book = stack.enter_context(closing(Ledger(ledger))) if ledger else None
        spans = telemetry.configured()
        if spans is not None:
            stack.enter_context(closing(spans))
        service = Service(members, settings=settings, keys=ring, ledger=book, telemetry=spans)
        address, bound = listener.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        typer.echo(f"colm-vl: http://{shown}:{bound}/v1  (Ctrl-C ends it)")
        server.serve(service, listener)


@keys_app.command("add")
def add_key(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    weight: Annotated[float, typer.Option(help="Share of the server while several callers wait.")] = 1.0,
    quota: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=NUMBER",
            help="requests_per_minute, at_once (calls of the server) or tokens_per_day. Repeatable.",
        ),
    ] = None,
    file: KeysOption = _KEYS,
) -> None:
    """Make a key and print it. It cannot be shown again."""
    typer.echo(keys.add(file, name, weight, _quota(quota or [])))


@keys_app.command("list")
def list_keys(file: KeysOption = _KEYS) -> None:
    """List the keys by name, with their weights and quotas."""
    columns = ("requests_per_minute", "at_once", "tokens_per_day")
    table = Table("name", "weight", *(column.replace("_", " ") for column in columns), box=None)
    for name, entry in keys.read(file).items():
        limits = [getattr(entry, column) for column in columns]
        table.add_row(name, f"{entry.weight:g}", *("-" if limit is None else f"{limit:,}" for limit in limits))
    Console().print(table)


@keys_app.command("revoke")
def revoke_key(name: Annotated[str, typer.Argument(help="Whose key it is.")], file: KeysOption = _KEYS) -> None:
    """Remove a key. A running service refuses it from then on."""
    keys.revoke(file, name)


def usage(
    ledger: Annotated[Path, typer.Argument(help="The file given to colm-vl serve --ledger.")],
    by: Annotated[Literal["key", "day", "model", "route"], typer.Option(help="How requests are grouped.")] = "key",
    days: Annotated[float | None, typer.Option(min=0, help="Only the last so many days. Default: all.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
) -> None:
    """Show what the keys of a service have used, also while it runs."""
    from colm_vl.service.ledger import usage as read_usage

    rows = read_usage(ledger, by=by, since=0.0 if days is None else time.time() - days * 86_400)
    if as_json:
        typer.echo(json.dumps([{by: row.group} | _without(asdict(row), "group") for row in rows], indent=1))
        return
    columns = ("requests", "refused", "failed", "calls", "avoided", "prompt", "reply", "server")
    table = Table(by, *columns, box=None)
    for row in rows:
        numbers = (
            row.requests, row.refused, row.failed, row.calls, row.avoided_calls, row.prompt_tokens,
            row.completion_tokens, row.server_tokens,
        )  # fmt: skip
        table.add_row(row.group or "-", *(f"{number:,}" for number in numbers))
    Console().print(table)


def _without(row: dict[str, object], key: str) -> dict[str, object]:
    return {name: value for name, value in row.items() if name != key}


def _quota(settings: list[str]) -> QuotaTable:
    limits = {}
    for setting in settings:
        key, equals, number = setting.partition("=")
        if not equals or not number.isdecimal():
            raise ConfigError(f"--quota {setting!r}: expected KEY=NUMBER", hint="such as --quota at_once=2")
        limits[key] = int(number)
    return validate(QuotaTable, limits, "--quota")
