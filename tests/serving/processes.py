"""Runs servers for tests, each in its own process."""

from __future__ import annotations

import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 120


@contextmanager
def running(
    command: Sequence[str], port: int, scratch: Path, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Run a server in a `with` block, which starts when http://127.0.0.1:PORT/health answers.

    Raises RuntimeError, with the end of its log, if it does not start.
    """
    log = scratch / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, cwd=scratch)
        try:
            _wait_until_healthy(process, port, log)
            yield
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_healthy(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)  # another process: there is nothing to await
    state = f"ended with {process.returncode}" if process.returncode is not None else f"was not up in {START_SECONDS} s"
    raise RuntimeError(f"the server {state}:\n{log.read_text(encoding='utf-8', errors='replace')[-2000:]}")
