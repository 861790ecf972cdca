"""The command `colm-vl page`: serves the web page.

    colm-vl page --team team.toml

The page makes no connections to other hosts: it loads no fonts or scripts from them and sends no usage reports.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from colm_vl import CoLM, ColmError, ConfigError, terminal
from colm_vl._startup import check_keys
from colm_vl.extras import require

logger = logging.getLogger(__name__)

MAX_UPLOAD = "64mb"
"""The server's limit. The page has smaller limits, and reports them beside the field."""

HELP = """Serve a web page on which visitors ask questions about pictures and follow each model's replies.

Without --team, the pocket team answers: tiny models that only understand a small world of drawn pictures. \
To use the models of a team file:

    colm-vl page --team team.toml --port 8080

By default, only this machine can open the page. With --host 0.0.0.0, everybody who can reach this machine can use \
your models. Programs can use gradio_client with api_name="/ask".
"""


def serve(
    team: Annotated[Path | None, typer.Option("--team", "-t", help="A team file. Default: the pocket team.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 7860,
    feedback: Annotated[
        Path | None,
        typer.Option(
            help="Ask visitors whether answers are right, and append their feedback and the trace to this file."
        ),
    ] = None,
    at_once: Annotated[int, typer.Option(help="Questions answered at the same time.", min=1)] = 4,
    line: Annotated[int, typer.Option(help="Questions that may wait in line.", min=0)] = 16,
    lazy: Annotated[
        bool, typer.Option("--lazy", help="Load local models at the first question, not when the page starts.")
    ] = False,
) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    _check_address(host, port)
    _check_feedback(feedback)
    with CoLM.from_team(team) as colm:
        check_keys(colm.team)
        with _uploads():
            loaded = threading.Event()
            launch(colm, host, port, feedback, at_once, line, loaded)
            typer.echo(f"colm-vl: http://{host}:{port}  (Ctrl-C ends it)")
            if lazy:
                loaded.set()
            else:
                threading.Thread(target=_load, args=(colm, loaded), daemon=True).start()
            with contextlib.suppress(KeyboardInterrupt):
                threading.Event().wait()


def _load(colm: CoLM, loaded: threading.Event) -> None:
    try:
        colm.load()
    except ColmError as error:  # every question will report it
        logger.error("%s", error)
    finally:
        loaded.set()


@contextlib.contextmanager
def _uploads() -> Iterator[None]:
    """A folder for visitors' files, which is removed when the server ends, also by SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="colm-vl-page-", ignore_cleanup_errors=True) as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        yield


def launch(
    colm: CoLM, host: str, port: int, feedback: Path | None = None, at_once: int = 4, line: int = 16,
    loaded: threading.Event | None = None,
) -> Any:  # fmt: skip
    """Start serving in the background and return the page; its `close` stops the server. Raises `MissingPackage`."""
    for package in ("gradio", "latex2mathml", "mdit_py_plugins", "nh3"):
        require(package, "demo")
    from .page import Options, build, examples_for
    from .privacy import middleware
    from .theme import ICON, css, script, theme

    examples = examples_for(colm.team)
    page = build(colm, Options(at_once, line, feedback, loaded=loaded), examples)
    # Only a safeguard: it is far above the limits of the waiting line.
    page.queue(max_size=200, default_concurrency_limit=None, api_open=False)
    page.launch(
        server_name=host, server_port=port, prevent_thread_lock=True, quiet=True, share=False, inbrowser=False,
        show_error=False, allowed_paths=[], max_file_size=MAX_UPLOAD, enable_monitoring=False, ssr_mode=False,
        pwa=False, mcp_server=False, run_history=False, footer_links=[], theme=theme(), css=css(examples),
        favicon_path=ICON,
        js=script(),
        app_kwargs={"middleware": middleware(), "docs_url": None, "redoc_url": None},
    )  # fmt: skip
    return page


def main() -> None:
    """Run the command without `colm-vl`: `python -m demos.image_qa`."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(help=HELP)(serve)
    terminal.run(app, "python -m demos.image_qa")


def _check_address(host: str, port: int) -> None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            if os.name == "posix":  # elsewhere it would allow a second process at the same port
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}, port {port}: {error.strerror}", hint="choose another --port or --host"
        ) from None


def _check_feedback(file: Path | None) -> None:
    if file is None:
        return
    try:
        with file.open("a", encoding="utf-8"):
            pass
    except OSError as error:
        raise ConfigError(f"feedback file {file}: {error.strerror}", hint="choose a writable file") from None


if __name__ == "__main__":
    main()
