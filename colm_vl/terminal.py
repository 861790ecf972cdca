"""Runs a command line and turns exceptions into a one-line message and an exit code."""

from __future__ import annotations

import io
import json
import logging
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from colm_vl.display import clean
from colm_vl.errors import ColmError, ConfigError, ImageError, InputError

ANSWERED, NOT_ANSWERED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

DebugOption = Annotated[bool, typer.Option("--debug", help="Show tracebacks and debug logs.")]


def run(app: typer.Typer, name: str | None = None) -> None:
    """Run a command line. With `--debug` among the arguments, exceptions are shown with their tracebacks."""
    debug = "--debug" in sys.argv
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # print "?" for characters that the terminal's encoding lacks
            stream.reconfigure(errors="replace")
    try:
        app(prog_name=name)
    except ColmError as error:
        if debug:
            raise
        tell(str(error), error.hint)
        sys.exit(BAD_INPUT if isinstance(error, ConfigError | InputError | ImageError) else NOT_ANSWERED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.exit(NOT_ANSWERED)
    except OSError as error:
        if debug:
            raise
        tell(f"the output cannot be written: {error.strerror}", "check the disk or the program that reads it")
        sys.exit(NOT_ANSWERED)


def tell(message: str, hint: str) -> None:
    """Print one line on standard error. It is not wrapped, so that it can be searched with grep."""
    line = Text("error: ", style="bold red") + Text(clean(message)) + Text(f" ({clean(hint)})" if hint else "")
    Console(stderr=True, highlight=False, soft_wrap=True).print(line)


def json_text(value: object) -> str:
    """Non-ASCII characters are written as they are if standard output is UTF-8. Control characters are escaped, also
    those for which JSON does not require it, because they could change the state of a terminal."""
    plain = sys.stdout is None or sys.stdout.encoding.lower().startswith("utf")
    text = json.dumps(value, ensure_ascii=not plain, indent=2)
    return "".join(char if char == "\n" or char.isprintable() else json.dumps(char)[1:-1] for char in text)


def set_up_logging(debug: bool) -> None:
    logging.basicConfig(level=logging.DEBUG if debug else logging.ERROR, format="%(name)s: %(message)s")
