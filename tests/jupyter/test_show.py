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


async def test_something_else_than_events_is_refused_with_the_call_to_make() -> None:
    with pytest.raises(TypeError, match=r"show takes events, not str: await show\(broadcaster.events"):
        await show("job-42")  # type: ignore[arg-type]


@pytest.mark.skipif(find_spec("IPython") is not None, reason="IPython is installed here")
async def test_without_a_notebook_the_error_names_what_to_install_or_to_call(broadcaster: Broadcaster) -> None:
    with pytest.raises(SetupError, match="pip install ipykernel"):
        await show(broadcaster.events("job-42"))
