"""Serves the tool over standard input and output, to the program that has started this process."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import re
import signal
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
from mcp.server.stdio import stdio_server
from typing_extensions import override

from colm_vl.engine import AsyncCoLM
from colm_vl.errors import ColmError, ImageError, InputError, NoAnswer
from colm_vl.events import Event
from colm_vl.mcp.arguments import Arguments, Picture, data_uri
from colm_vl.mcp.tool import Asker, tool_server
from colm_vl.types import EarlierTurn, Query
from processors.images import Image
from processors.sources import shown

logger = logging.getLogger(__name__)


def serve(colm: AsyncCoLM, folders: Sequence[Path]) -> None:
    """Serve until standard input ends. Nothing else can write to standard output meanwhile."""
    # Waiting for a line of standard input cannot be interrupted otherwise.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.stdout.flush()
    protocol = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print, also those in C, belongs to the log
    asyncio.run(_serve(LocalAsker(colm, folders), protocol))


async def _serve(asker: LocalAsker, protocol: io.BufferedWriter) -> None:
    server = tool_server(asker)
    out = anyio.wrap_file(io.TextIOWrapper(protocol, encoding="utf-8"))
    async with asker.colm, stdio_server(stdout=out) as (received, sent):
        await server.run(received, sent, server.create_initialization_options())


class LocalAsker(Asker):
    """Asks a team of this process. Pictures can be files, in one of `folders` if there are any."""

    paths = True

    def __init__(self, colm: AsyncCoLM, folders: Sequence[Path] = ()) -> None:
        self.colm = colm
        self.team = colm.team
        self._folders = [folder.resolve() for folder in folders]

    @override
    async def follow(self, asked: Arguments, request: Any) -> AsyncGenerator[Event, None]:
        query = await asyncio.to_thread(self._query, asked)
        async with aclosing(self.colm.stream(query)) as events:
            async for event in events:
                yield event

    @override
    def tell(self, error: Exception) -> str:
        if isinstance(error, InputError | ImageError | NoAnswer):
            return f"{error} ({error.hint})" if error.hint else str(error)
        logger.error("a question failed", exc_info=error)
        kind = f" ({error.kind})" if isinstance(error, ColmError) else ""
        return f"the question failed{kind}; the log of colm-vl mcp has the cause"

    def _query(self, asked: Arguments) -> Query:
        turns = [EarlierTurn(turn.role, turn.text, len(turn.pictures)) for turn in asked.history]
        pictures = [picture for turn in (*asked.history, asked) for picture in turn.pictures]
        images = tuple(self._open(picture) for picture in pictures)
        return Query(asked.question, images, tuple(asked.choices), history=tuple(turns))

    def _open(self, picture: Picture) -> Image:
        uri = data_uri(picture)
        if uri is not None:
            return Image.open(uri)
        assert isinstance(picture, str)
        if re.match(r"[a-z][a-z0-9+.-]+:", picture, re.IGNORECASE) and not Path(picture).drive:
            scheme = picture.partition(":")[0]
            raise InputError(f"pictures are not opened by {scheme}: addresses", hint="save it, and pass its path")
        return Image.open(self._allowed(Path(picture)), pipes=False)

    def _allowed(self, path: Path) -> Path:
        """The path. A relative one starts at the first folder. Raises `InputError` if it is in none of the folders."""
        if not self._folders:
            return path.expanduser()
        found = (self._folders[0] / path.expanduser()).resolve()
        if not any(found.is_relative_to(folder) for folder in self._folders):
            raise InputError(
                f"the picture {shown(str(path))} is not in a folder that may be read",
                hint="copy it to an allowed folder",
            )
        if not found.exists():
            raise InputError(f"the picture {shown(str(path))} does not exist", hint="check the path")
        return found
