"""What others wrote is their releases, file by file, with their licences."""

from __future__ import annotations

import hashlib
import re

from tests.support.servers.console_modules import CONSOLE

VENDOR = CONSOLE / "vendor"
ROW = re.compile(r"^\| `([^`]+)` \| `[^`]+` \| `([0-9a-f]{64})` \|$", re.MULTILINE)


def test_every_vendored_file_is_the_one_that_its_list_names() -> None:
    listed = dict(ROW.findall((VENDOR / "README.md").read_text()))
    found = {str(path.relative_to(VENDOR)): path for path in VENDOR.rglob("*") if path.is_file()}
    del found["README.md"]
    assert {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in found.items()} == listed


def test_every_vendored_library_has_its_licence() -> None:
    libraries = [path for path in VENDOR.iterdir() if path.is_dir()]
    assert len(libraries) == 3
    for library in libraries:
        assert (
            "Permission is hereby granted" in (text := (library / "LICENSE.txt").read_text())
            or "Redistribution" in text
        )
