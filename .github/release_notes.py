"""Print the section of CHANGELOG.md for a tag such as v0.2.0. Refuse a tag that is not the version of the package."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def package_version(root: Path = ROOT) -> str:
    text = (root / "colm_vl" / "__init__.py").read_text("utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        raise ValueError("colm_vl/__init__.py has no __version__")
    return found[1]


def notes(changelog: str, version: str) -> str:
    """The text of the section `## VERSION - YYYY-MM-DD`, without its heading."""
    heading = rf"^## {re.escape(version)} - \d{{4}}-\d{{2}}-\d{{2}}$"
    found = re.search(rf"{heading}\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    if found is None or not found[1].strip():
        raise ValueError(f"CHANGELOG.md has no section '## {version} - YYYY-MM-DD' with text")
    return found[1].strip() + "\n"


def notes_of_tag(tag: str, root: Path = ROOT) -> str:
    version = package_version(root)
    if tag != f"v{version}":
        raise ValueError(f"the tag is {tag!r}, but the version of the package is {version!r}: expected 'v{version}'")
    return notes((root / "CHANGELOG.md").read_text("utf-8"), version)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: release_notes.py TAG")
    try:
        sys.stdout.write(notes_of_tag(sys.argv[1]))
    except ValueError as error:
        sys.exit(str(error))
