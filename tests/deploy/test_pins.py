"""What is installed is what was reviewed: every requirement is pinned to a version and to the hashes of its files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.deploy.files import ROOT

LOCKED = sorted((ROOT / "requirements").glob("*.txt"))
# Name and version, perhaps where it is needed, and at least one hash.
_PINNED = re.compile(r"[\w.-]+(\[[\w,-]+\])?==[^\s;]+( ; .+?)?( --hash=sha256:[0-9a-f]{64})+", re.ASCII)


@pytest.mark.parametrize("path", LOCKED, ids=[path.name for path in LOCKED])
def test_every_requirement_has_one_version_and_the_hashes_of_its_files(path: Path) -> None:
    lines = path.read_text().replace("\\\n", " ").splitlines()
    rows = [" ".join(line.split()) for line in lines if line.strip() and not line.lstrip().startswith("#")]
    assert rows
    for row in rows:
        assert _PINNED.fullmatch(row), row


def test_the_image_installs_nothing_without_its_hash_and_only_wheels() -> None:
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    commands = [command for line in text.splitlines() for command in line.split("&&")]
    installs = [command for command in commands if re.search(r"\bpip\b.* install ", command)]
    assert len(installs) >= 3
    for command in installs:
        assert "--require-hashes" in command or "--no-deps --no-index" in command, command
    assert "PIP_ONLY_BINARY=:all:" in text
