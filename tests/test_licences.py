"""docs/licences.md. `make licences` reads the licences; these tests need no packages of extras."""

from __future__ import annotations

import re

import pytest

from tools import licences


def test_every_locked_package_is_listed() -> None:
    listed = set(re.findall(r"^\| ([a-z0-9-]+) \| [^|]+ \| [^|]+ \| [^|]+ \|$", licences.PAGE.read_text("utf-8"), re.M))
    assert listed - {"package", "---"} == licences.locked_versions().keys(), "make licences"


@pytest.mark.parametrize("licence", ["MIT", "Apache-2.0 AND MIT", "MPL-2.0 AND (Apache-2.0 OR MIT)", licences.NVIDIA])
def test_licences_that_permit_commercial_use_pass(licence: str) -> None:
    assert licences.is_allowed("new", licence)


@pytest.mark.parametrize("licence", ["UNKNOWN", "", "AGPL-3.0-only", "CC-BY-NC-4.0", "MIT AND AGPL-3.0-only", "GPLv2"])
def test_other_licences_are_refused(licence: str) -> None:
    assert not licences.is_allowed("new", licence)
