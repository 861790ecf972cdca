"""constraints.txt, the lock file. `make lock-check` resolves it anew; these tests need no registry."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools import lock

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
LOCKED = [Requirement(line) for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if line[0] != "#"]


@pytest.mark.parametrize("extra", ["", *PROJECT["optional-dependencies"]])
def test_every_requirement_of_an_extra_is_locked_at_a_version_that_it_allows(extra: str) -> None:
    required = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    for requirement in map(Requirement, required):
        if requirement.name == PROJECT["name"]:
            continue
        name = canonicalize_name(requirement.name)
        versions = [next(iter(line.specifier)).version for line in LOCKED if canonicalize_name(line.name) == name]
        assert versions, f"{name} is not in constraints.txt: make lock"
        assert all(requirement.specifier.contains(one, prereleases=True) for one in versions), (
            str(requirement),
            versions,
        )


def test_the_lock_file_pins_single_versions_and_names_no_registry() -> None:
    assert all(re.fullmatch(r"==[^,*]+", str(line.specifier)) and not line.url for line in LOCKED)
    assert "://" not in (ROOT / "constraints.txt").read_text("utf-8")


def test_a_difference_is_told_in_words() -> None:
    locked = "# made\na==1\nb==1\nd==1 ; sys_platform == 'win32'\nd==2 ; sys_platform != 'win32'\n"
    resolved = "b==2\nc==1\nd==1 ; sys_platform == 'win32'\nd==2 ; sys_platform != 'win32'\n"
    assert lock.differences(locked, resolved) == ["a is not needed", "b==1 should be b==2", "c is missing"]
