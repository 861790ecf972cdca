"""Writes constraints.txt, the lock file: one version of every package of every extra, for all platforms and Pythons.

`python tools/lock.py` keeps the versions that still fit, `--upgrade` takes the newest of all, and `--check` writes
nothing and exits with status 1 if the file is not current. It needs uv and a package registry.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "constraints.txt"
OLDEST = "3.11"
"""The oldest supported Python. The versions hold from it on."""
SHOWN = 5


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--check", action="store_true", help="write nothing, and fail if the file is not current")
    which.add_argument("--upgrade", action="store_true", help="take the newest versions")
    given = parser.parse_args(arguments)
    locked = LOCK.read_text("utf-8")
    resolved = resolve(locked, upgrade=given.upgrade)
    if not given.check:
        LOCK.write_text(resolved, "utf-8", newline="\n")
    elif changes := differences(locked, resolved):
        more = f"; and {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
        sys.stderr.write(f"constraints.txt is not current: {'; '.join(changes[:SHOWN])}{more}. Run: make lock\n")
        return 1
    return 0


def resolve(locked: str, *, upgrade: bool) -> str:
    """The lock file for pyproject.toml as it is now. It names no registry."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, LOCK.name)
        out.write_text(locked, "utf-8", newline="\n")
        command = ["uv", "pip", "compile", "pyproject.toml", "--quiet", "--all-extras", "--universal", "--no-annotate"]
        command += ["--python-version", OLDEST, "--custom-compile-command", "make lock", "--output-file", str(out)]
        command += ["--upgrade"] if upgrade else []
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
        subprocess.run(command, cwd=ROOT, env=environment, check=True)  # noqa: S603
        return out.read_text("utf-8")


def differences(locked: str, resolved: str) -> list[str]:
    """What a reader has to know of the packages whose lines differ, in alphabetical order."""
    before, after = _lines(locked), _lines(resolved)
    return [
        f"{name} is missing"
        if name not in before
        else f"{name} is not needed"
        if name not in after
        else f"{' and '.join(before[name])} should be {' and '.join(after[name])}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def _lines(text: str) -> dict[str, list[str]]:
    """The lines of each package. It has several if Pythons or platforms need different versions."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            found.setdefault(line.partition("==")[0], []).append(line)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
