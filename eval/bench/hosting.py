"""`colm-vl serve` in a process of its own, with stub endpoints as its members."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, Popen

from colm_vl.errors import ColmError
from colm_vl.service import keys
from colm_vl.service.keys import QuotaTable

_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


@dataclass(frozen=True, slots=True)
class Hosted:
    """A running service. `keys` are those of its callers, by name; `stub` is the address of its server's endpoint."""

    url: str
    pid: int
    keys: Mapping[str, str]
    stub: str

    def headers(self, caller: str) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {self.keys[caller]}"}

    def cpu(self) -> float:
        """Seconds of CPU time that the process has used. Needs /proc."""
        fields = Path(f"/proc/{self.pid}/stat").read_text("ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def memory(self) -> int:
        """Resident bytes. Needs /proc."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text("ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def hosted(urls: Sequence[str], callers: Mapping[str, QuotaTable], *, places: int) -> Iterator[Hosted]:
    """Serve a team with a client at each address but the last, which is its server's."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "team.toml").write_text(_team(urls), "utf-8")
        (folder / "service.toml").write_text(
            f"[queue]\nplaces = {places}\nwaiting = 4096\nwaiting_each = 1024\n", "utf-8"
        )
        made = {name: keys.add(folder / "keys.toml", name, 1.0, quota) for name, quota in callers.items()}
        files = [f"--{name}={folder / file}" for name, file in _FILES.items()]
        command = [sys.executable, "-m", "colm_vl.cli", "serve", "--port", "0", *files]
        log = (folder / "service.log").open("w")
        with log, Popen(command, stdout=PIPE, stderr=log, text=True) as process:  # noqa: S603 - our own module
            assert process.stdout is not None
            try:
                started = process.stdout.readline().split()
                if not started:
                    said = (folder / "service.log").read_text("utf-8", "replace").strip().splitlines()
                    raise ColmError(f"the service did not start: {said[-1] if said else 'it said nothing'}")
                yield Hosted(started[1].removesuffix("/v1"), process.pid, made, urls[-1])
            finally:
                process.terminate()
                process.wait(60)


_FILES = {"team": "team.toml", "config": "service.toml", "keys": "keys.toml"}


def _team(urls: Sequence[str]) -> str:
    def table(url: str) -> str:
        settings = {"backend": "openai", "model": "stub", "base_url": url, "max_concurrency": 1000}
        return "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())

    *clients, server = urls
    named = [f'[[clients]]\nname = "client {number}"\n{table(url)}' for number, url in enumerate(clients, 1)]
    return "\n".join([*named, f"[server]\n{table(server)}"])
