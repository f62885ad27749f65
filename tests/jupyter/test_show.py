"""``show`` in a cell of a real kernel; examples/notebook is executed as it stands."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import pytest

from broadcaster import Broadcaster
from broadcaster.errors import SetupError
from broadcaster.jupyter import show
from broadcaster.log.redis.connect import LogConnection
from tests.support.documents import ROOT
from tests.support.servers.programs import lacking

PACKAGES: Final = ROOT / ".venv" / "notebook"
EXAMPLE: Final = ROOT / "examples" / "notebook" / "streams.ipynb"
DEADLINE_S: Final = 90.0
OPEN: Final = """
import asyncio, os
from broadcaster import Broadcaster
from broadcaster.jupyter import show
broadcaster = Broadcaster.from_url(os.environ["BROADCASTER_REDIS_URL"])
"""


ENTRIES: Final = """
import json
from broadcaster.client.stream import EntryReceived, GapReceived
from broadcaster.core.cursor import START, Cursor
from broadcaster.core.events import read_event
def entry(epoch, seq, **event):
    raw = json.dumps(event).encode()
    return EntryReceived(Cursor(epoch, seq), read_event(raw), raw)
def text(epoch, seq, delta):
    return entry(epoch, seq, type="text-delta", id="t", delta=delta)
async def events(*given):
    for each in given:
        yield each
"""


async def executed(notebook: Path, redis_url: str) -> list[dict[str, Any]]:
    """The cells of code after their execution: {text, html, updates, error}."""
    if not PACKAGES.is_dir():
        lacking("no Jupyter kernel here: get it with `make notebook`")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.apps.run_notebook", str(notebook)),
        cwd=ROOT,
        env={**os.environ, "BROADCASTER_REDIS_URL": redis_url, "PYTHONPATH": f"{ROOT}:{PACKAGES}"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(DEADLINE_S):
        output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    cells: list[dict[str, Any]] = json.loads(output)
    return cells


def notebook_of(folder: Path, *cells: str) -> Path:
    """A notebook with these cells."""
    written: list[dict[str, Any]] = [
        {"cell_type": "code", "execution_count": None, "id": f"c{at}", "metadata": {}, "outputs": [], "source": source}
        for at, source in enumerate(cells)
    ]
    path = folder / "test.ipynb"
    path.write_text(json.dumps({"cells": written, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return path


async def test_the_example_shows_an_answer_a_job_and_the_answer_once_more_also_after_a_restart(
    connection: LogConnection, tmp_path: Path
) -> None:
    answer, text, job, replayed = [
        cell for cell in await executed(EXAMPLE, connection.url) if cell["html"] or cell["text"]
    ]
    whole = "The sea is salty because of its rivers."
    assert f">{whole}</div>" in answer["html"]
    assert answer["text"] == f"{whole}\nfinished"
    assert answer["updates"] > 2
    assert text["text"] == repr(whole)
    assert '<progress max="20" value="20"' in job["html"]
    assert "<summary>data-file</summary>" in job["html"]
    assert replayed["text"] == answer["text"]
    cells = {cell["id"]: "".join(cell["source"]) for cell in json.loads(EXAMPLE.read_text("utf-8"))["cells"]}
    restarted = notebook_of(tmp_path, cells["open"], cells["again"])
    _, shown = await executed(restarted, connection.url)
    assert (shown["text"], shown["error"]) == (answer["text"], None)


async def test_a_stream_that_cannot_be_read_to_its_end_is_shown_as_far_as_it_came(
    connection: LogConnection, tmp_path: Path
) -> None:
    async with Broadcaster.from_url(connection.url) as broadcaster, broadcaster.feed("job-42") as feed:
        await feed.text("half")
        broken = OPEN + "\n".join(
            [
                "async def events():",
                '    async for event in broadcaster.events("job-42"):',
                "        yield event",
                '        if event.type == "text-start":',
                '            raise ConnectionError("Redis is away")',
                "await show(events())",
            ]
        )
        (cell,) = await executed(notebook_of(tmp_path, broken), connection.url)
    assert cell["error"] == "ConnectionError: Redis is away"
    assert cell["text"].endswith("running · not read to its end: Redis is away")


async def test_an_answer_that_replaced_another_one_is_shown_as_whole(connection: LogConnection, tmp_path: Path) -> None:
    cells = {cell["id"]: "".join(cell["source"]) for cell in json.loads(EXAMPLE.read_text("utf-8"))["cells"]}
    twice = notebook_of(tmp_path, cells["open"], cells["answer"], cells["answer"])
    first, second = [cell for cell in await executed(twice, connection.url) if cell["html"]]
    assert first["text"] == "The sea is salty because of its rivers.\nfinished"
    assert second["text"] == "The sea is salty because of its rivers.\nfinished · attempt 2"


async def test_a_gap_takes_the_void_entries_alone_out_of_the_output(connection: LogConnection, tmp_path: Path) -> None:
    started = "entry(7, 1, type='text-start', id='t'), text(7, 2, 'one '), text(7, 3, 'old ')"
    rewound = f"events({started}, GapReceived('rewound', Cursor(7, 2), 3, 3), text(8, 3, 'two '), text(8, 4, 'three'))"
    reset = f"events({started}, GapReceived('reset', START, 1, 3), entry(8, 1, type='text-start', id='t'))"
    anew = f"events({started}, GapReceived('reset', Cursor(8, 2), 3, 3), text(8, 3, 'new'))"
    lost = "GapReceived('rewound', Cursor(7, 2), 3, 3)"
    trimmed = f"events(GapReceived('trimmed', Cursor(0, 1), 1, 1), text(7, 2, 'a'), {lost})"
    cells = [f"await show({each});" for each in (rewound, reset, anew, trimmed)]
    shown = await executed(notebook_of(tmp_path, OPEN + ENTRIES, *cells), connection.url)
    assert [cell["text"] for cell in shown[1:]] == [
        "one two three\nrunning",
        "running",
        "new\nrunning · some events are missing: they have expired",
        "a\nrunning · some events are missing: they have expired",
    ]


async def test_beyond_what_is_kept_a_rewound_gap_drops_all_and_the_output_names_it(
    connection: LogConnection, tmp_path: Path
) -> None:
    many = "[entry(7, seq, type='data-n', id='n', data=seq) for seq in range(1, KEPT_ENTRIES + 2)]"
    kept = "from broadcaster.jupyter.show import KEPT_ENTRIES\n"
    cell = f"{kept}await show(events(*{many}, GapReceived('rewound', Cursor(7, 2), 3, 3), text(8, 3, 'rest')));"
    _, shown = await executed(notebook_of(tmp_path, OPEN + ENTRIES, cell), connection.url)
    assert shown["text"] == "rest\nrunning · some events are missing: they have expired"


async def test_something_else_than_events_is_refused_with_the_call_to_make() -> None:
    with pytest.raises(TypeError, match=r"show takes events, not str: await show\(broadcaster.events"):
        await show("job-42")  # type: ignore[arg-type]


@pytest.mark.skipif(find_spec("IPython") is not None, reason="IPython is installed here")
async def test_without_a_notebook_the_error_names_what_to_install_or_to_call(broadcaster: Broadcaster) -> None:
    with pytest.raises(SetupError, match="pip install ipykernel"):
        await show(broadcaster.events("job-42"))
