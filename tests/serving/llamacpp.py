"""A real llama.cpp with a real small model, SmolLM2-135M-Instruct, as two clients and server.

Its packages are in an environment of their own, which `make test-llamacpp` builds and names in COLM_VL_LLAMACPP.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.serving.processes import free_port, running

HERE = Path(__file__).parent
QUESTIONS = HERE / "questions.jsonl"
"""General knowledge and small sums, every other one with choices."""


def environment() -> Path | None:
    """The Python of the environment that has the packages, if there is one."""
    folder = os.environ.get("COLM_VL_LLAMACPP")
    python = Path(folder).absolute() / "bin" / "python" if folder else None
    return python if python and python.exists() else None


@contextmanager
def serve(python: Path) -> Iterator[Path]:
    """Run the server in a `with` block, and yield a team file whose members all use it."""
    port = free_port()
    with (
        tempfile.TemporaryDirectory(prefix="llamacpp-") as scratch,
        running([str(python), str(HERE / "llamacpp_server.py"), str(port)], port, Path(scratch)),
    ):
        team = (HERE / "smollm2.toml").read_text(encoding="utf-8")
        file = Path(scratch) / "team.toml"
        file.write_text(team.replace(":8080/", f":{port}/"), encoding="utf-8")
        yield file
