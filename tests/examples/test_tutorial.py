"""docs/tutorial.md, from its first command to its last and then once more, on one real `broadcaster up`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from broadcaster.testing import Script, ScriptedProvider
from tests.support.documents import marked_blocks, run_to_its_end, started

TUTORIAL = "docs/tutorial.md"
MODEL = "claude-scripted"
# A server, a worker and a front-end on a machine that is busy with other tests.
START_S = 60.0


# Twenty processes, one after the other: too much for every run.
@pytest.mark.thorough
@pytest.mark.timeout(300)
async def test_every_command_of_the_tutorial_prints_the_answer_also_when_it_is_repeated(tmp_path: Path) -> None:
    blocks = marked_blocks(TUTORIAL)
    async with ScriptedProvider() as scripted:
        scripted.script(MODEL, Script.of_text("Rivers ", "carry ", "it ", "there."))
        variables = {
            "BROADCASTER_DATA_DIR": str(tmp_path / "data"),
            "BROADCASTER_DEFAULT_MODEL": MODEL,
            "ANTHROPIC_BASE_URL": scripted.base_url,
            "ANTHROPIC_API_KEY": "test-key",
        }
        starting = blocks.pop("up").with_addresses({"--port 8000": "--port 0"}).run_in(tmp_path)
        async with started(starting, tmp_path, **variables) as up:
            url = (await up.logged("broadcaster is up: ", START_S)).partition("is up: ")[2].strip()
            for _ in range(2):
                printed = {}
                for name, block in blocks.items():
                    ours = block.with_addresses({"http://127.0.0.1:8000": url}).run_in(tmp_path)
                    printed[name] = await run_to_its_end(ours, tmp_path, **variables)
                check(printed)
            second = replace(starting, name="up-second")
            assert f"is running already: {url}" in await run_to_its_end(second, tmp_path, **variables)


def check(printed: Mapping[str, str]) -> None:
    """What each block has printed."""
    assert list(printed) == ["ask", "list", "watch", "resume", "feed"]
    assert "Rivers carry it there." in printed["ask"]
    assert "finished" in printed["list"]
    ids = {name: re.findall(r"^id: \d+-(\d+)$", printed[name], re.MULTILINE) for name in ("watch", "resume")}
    assert ids["watch"][0] == "1"
    assert ids["resume"] == ids["watch"][3:]
    for name in ids:
        assert '"type":"finish"' in printed[name]
    assert "100" in printed["feed"] or "10/10" in printed["feed"]
