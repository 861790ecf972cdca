"""The command `colm-vl mcp`. Packages of the extra are imported when it runs."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from colm_vl import policies
from colm_vl._startup import check_keys
from colm_vl.engine import AsyncCoLM
from colm_vl.errors import ConfigError
from colm_vl.extras import require

HELP = """Offer the team as a tool to a program that speaks the Model Context Protocol (MCP), over stdin and stdout.

The program starts this command itself. Its configuration needs the command and its arguments:

    {"mcpServers": {"colm-vl": {"command": "colm-vl", "args": ["mcp", "--team", "/path/to/team.toml"]}}}

The tool, ask, takes a question and, optionally, pictures (paths, data URIs or base64), choices and earlier turns. \
To offer it over HTTP, use colm-vl serve --mcp.
"""


def serve(
    team: Annotated[Path | None, typer.Option("--team", "-t", help="A team file. Default: the pocket team.")] = None,
    folder: Annotated[
        list[Path] | None,
        typer.Option(help="Open only picture files in this folder. Repeatable. Default: all that you can read."),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set a policy key. Repeatable.")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Log all messages, and show tracebacks.")] = False,
) -> None:
    require("mcp", "mcp")
    from colm_vl.mcp import stdio

    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, format="%(name)s: %(message)s")
    for each in folder or ():
        if not each.is_dir():
            raise ConfigError(f"--folder {each}: no such folder", hint="name a folder with pictures")
    colm = AsyncCoLM.from_team(team, **policies.read_settings(settings or ()))
    check_keys(colm.team)
    if sys.stdin.isatty():
        typer.echo(
            "colm-vl: waiting for messages on standard input, which an MCP client sends (Ctrl-C ends it)", err=True
        )
    stdio.serve(colm, folder or ())
