"""Two machines: two network namespaces if this process may make them, or else two addresses on loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Machine:
    """A command with `prefix` before it runs on the machine, whose address is `host`."""

    host: str
    prefix: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Machines:
    service: Machine
    client: Machine
    apart: bool
    """Whether they are in network namespaces of their own."""


@contextmanager
def two_machines() -> Iterator[Machines]:
    names = [f"colm-{which}-{os.getpid()}" for which in ("service", "client")]
    ip = shutil.which("ip")
    if ip is None or not _run(ip, "netns", "add", names[0]):
        yield Machines(Machine("127.0.0.2"), Machine("127.0.0.1"), apart=False)
        return
    try:
        linked = _run(ip, "netns", "add", names[1]) and _link(ip, names)
        if not linked:
            yield Machines(Machine("127.0.0.2"), Machine("127.0.0.1"), apart=False)
            return
        service, client = (
            Machine(f"10.213.0.{number}", (ip, "netns", "exec", name)) for number, name in enumerate(names, 1)
        )
        yield Machines(service, client, apart=True)
    finally:
        for name in names:
            _run(ip, "netns", "del", name)


def _link(ip: str, names: Sequence[str]) -> bool:
    ends = [f"colm{os.getpid() % 100_000}{letter}" for letter in "ab"]
    made = _run(ip, "link", "add", ends[0], "netns", names[0], "type", "veth", "peer", ends[1], "netns", names[1])
    return made and all(
        _run(ip, "-n", name, "addr", "add", f"10.213.0.{number}/24", "dev", end)
        and _run(ip, "-n", name, "link", "set", end, "up")
        and _run(ip, "-n", name, "link", "set", "lo", "up")
        for number, (name, end) in enumerate(zip(names, ends, strict=True), 1)
    )


def _run(*command: str) -> bool:
    return subprocess.run(command, capture_output=True).returncode == 0
