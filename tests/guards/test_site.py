"""The build of the documents refuses what it should: a page that loads from another host, and a dead anchor.

`make check` builds the documents themselves.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.guards.source import ROOT
from tests.support.servers.programs import lacking

SITE = ROOT / "deploy" / "site"
PACKAGES = ROOT / ".venv" / "site"


@pytest.mark.parametrize(
    ("page", "messages"),
    [
        (
            '![a picture](https://example.com/a.png)\n\n<script async src="//example.com/a.js"></script>',
            ["index.html: https://example.com/a.png\n", "index.html: //example.com/a.js\n"],
        ),
        ("[there](#nowhere)", ["there is no such anchor on this page"]),
    ],
)
def test_a_page_that_loads_from_elsewhere_and_a_dead_anchor_fail_the_build(
    tmp_path: Path, page: str, messages: list[str]
) -> None:
    if not PACKAGES.is_dir():
        lacking("the documents cannot be built: make site")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# A page\n\n{page}\n\n[a link](https://example.com) is no load\n")
    settings = {
        "INHERIT": str(SITE / "mkdocs.yml"),
        "docs_dir": str(tmp_path / "docs"),
        "site_dir": str(tmp_path / "site"),
        "hooks": [str(SITE / "nothing_external.py")],
        "nav": ["index.md"],
    }
    (tmp_path / "mkdocs.yml").write_text(json.dumps(settings))
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(tmp_path / "mkdocs.yml")],
        env={**os.environ, "PYTHONPATH": str(PACKAGES), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert [message for message in messages if message not in done.stderr] == []
