"""examples/plain_script.py as it is run: a reader goes away, the next one goes on, nothing is lost or doubled."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.documents import ROOT, Block, run_to_its_end
from tests.support.log.valkey import ValkeyServer

SCRIPT = "examples/plain_script.py"
MOST_LINES = 60


async def test_the_second_reader_goes_on_where_the_first_one_stopped(server: ValkeyServer, tmp_path: Path) -> None:
    output = await run_to_its_end(Block("script", "sh", f"python {SCRIPT} {server.url}\n"), tmp_path)
    assert output.split("\n") == [
        "Readers resume with a | the reader goes away",
        "cursor and get the rest, once and whole. | and another has read the rest",
        "",
    ]


def test_the_plain_script_fits_on_one_page_and_shows_how_it_is_run() -> None:
    text = (ROOT / SCRIPT).read_text("utf-8")
    assert text.count("\n") <= MOST_LINES
    assert re.search(rf"^    python {SCRIPT} redis://", text, re.MULTILINE)
