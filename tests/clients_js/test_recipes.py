"""The recipes for Vue and Svelte of docs/javascript.md, as they stand there, with the real packages under node."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.client.conftest import STORY, as_log
from tests.compat.node_clients import FOLDER, require_modules
from tests.support.documents import ROOT
from tests.support.servers.sse_server import Exchange, SseServer

HERE = Path(__file__).parent
MODULES = FOLDER / "node_modules"
TEXT = "Héllo\u2028"
recipes = pytest.mark.parametrize("framework", ["vue", "svelte"])


def recipe(framework: str) -> str:
    """The block of the document that imports from the framework."""
    text = (ROOT / "docs/javascript.md").read_text("utf-8")
    blocks = re.findall(r"^```js\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    [found] = [block for block in blocks if re.search(rf'from "{framework}\b', block)]
    return str(found)


def run(folder: Path, framework: str, *arguments: str) -> list[dict[str, Any]]:
    """What the recipe showed, in its order."""
    node = require_modules()
    (folder / "recipe.js").write_text(recipe(framework), "utf-8")
    client = ROOT / "clients/js/src/index.js"
    aliases = (f"--alias:recipe={folder / 'recipe.js'}", f"--alias:llm-broadcaster={client}")
    bundle = ("--bundle", "--platform=node", "--format=esm", "--log-level=error", f"--outfile={folder / 'run.mjs'}")
    command = [str(MODULES / ".bin/esbuild"), str(HERE / f"recipe_{framework}.mjs"), *bundle, *aliases]
    subprocess.run(command, check=True, timeout=60, env={**os.environ, "NODE_PATH": str(MODULES)})
    done = subprocess.run([node, "run.mjs", *arguments], cwd=folder, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return [json.loads(line) for line in done.stdout.decode().split("\n") if line]


@recipes
async def test_a_recipe_shows_the_answer_as_it_grows(server: SseServer, tmp_path: Path, framework: str) -> None:
    shown = await asyncio.to_thread(run, tmp_path, framework, f"{server.url}/v1/streams/s/events")
    assert [each["text"] for each in shown] == sorted((each["text"] for each in shown), key=len)
    assert shown[0] == {"text": "", "status": "queued", "connection": "connecting", "code": None}
    assert shown[-1] == {"text": TEXT, "status": "finished", "connection": "ended", "code": None}


@recipes
async def test_a_recipe_shows_why_a_stream_cannot_be_watched(server: SseServer, tmp_path: Path, framework: str) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.problem(404, "unknown_stream", retry=False)

    server.plans.append(refuse)
    shown = await asyncio.to_thread(run, tmp_path, framework, f"{server.url}/v1/streams/s/events")
    assert (shown[-1]["connection"], shown[-1]["code"]) == ("closed", "unknown_stream")


@recipes
async def test_a_recipe_closes_its_connection_when_the_component_leaves(
    server: SseServer, tmp_path: Path, framework: str
) -> None:
    server.entries = as_log(*STORY)[:3]
    shown = await asyncio.to_thread(run, tmp_path, framework, f"{server.url}/v1/streams/s/events", "Hé")
    assert shown[-1]["text"] == "Hé"
    # The process has ended by itself, which an open connection would have prevented.
    await server.wait_for(lambda: server.left > 0)
    assert len(server.requests) == 1
