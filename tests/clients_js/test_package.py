"""The package as it is published: its size, its types, and what `npm pack` puts into it."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import subprocess
from pathlib import Path

import pytest

import broadcaster.web
from broadcaster.core.event_reference.typescript import typescript
from broadcaster.web.documents.feed_schemas import FeedBody
from tests.compat.node_clients import FOLDER, require_modules
from tests.support.servers.programs import find_program, lacking
from tests.support.servers.sse_server import SseServer

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "clients" / "js"
LIMIT_BYTES = 7 * 1024
WEBSOCKET_LIMIT_BYTES = 2 * 1024
TYPED = """
import { BroadcasterError, publish, start, stop, watch, type FeedConfig, type Update } from "llm-broadcaster";
import { useStream } from "llm-broadcaster/react";

async function run(server: string, token: () => Promise<string>): Promise<string> {
  const generation = await start("Why?", { server, token });
  const answer = watch(generation.events_url, { server, token, transport: "ws", signal: new AbortController().signal });
  for await (const update of answer) note(update);
  await stop(generation.id, { server });
  const webhook: FeedConfig["webhook"] = { url: "https://hooks.example/jobs", events: ["finished", "failed"] };
  await publish("job-42", ["text", { type: "data-progress", data: { done: 1 } }], { config: { lease_s: 15, webhook } });
  // @ts-expect-error a feed has no such end
  await publish("job-42", [], { config: { webhook: { url: "https://hooks.example/jobs", events: ["done"] } } });
  // @ts-expect-error a state has no such field
  answer.state.txet;
  return answer.state.text;
}

function note(update: Update): string {
  if (update.kind === "entry" && update.event.type === "text-delta") return update.event.delta;
  if (update.kind === "gap") return update.reason;
  if (update.kind === "connection" && update.name === "reconnecting") return `${update.delayMs} ms`;
  return update.kind;
}

const retry = (error: unknown): boolean => error instanceof BroadcasterError && error.retry;
const view = (id: string | null): string => useStream(id).parts.map((part) => part.type).join() + useStream(id).text;
export { retry, run, view };
"""
USE = """
import { watch } from "llm-broadcaster";
const answer = watch(process.argv[2]);
for await (const _ of answer);
console.log(answer.state.text);
"""


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def bundled_bytes(module: str) -> int:
    """What a browser receives for this module, without the one for WebSockets, which is loaded when it is needed."""
    require_modules()
    options = ("--bundle", "--minify", "--format=esm", "--external:./ws.js")
    bundle = run(str(FOLDER / "node_modules/.bin/esbuild"), f"src/{module}", *options, cwd=PACKAGE)
    return len(gzip.compress(bundle.encode(), 9))


def test_what_a_browser_loads_is_at_most_seven_kilobytes() -> None:
    assert bundled_bytes("index.js") <= LIMIT_BYTES


def test_what_a_browser_loads_for_a_websocket_is_at_most_two_kilobytes_more() -> None:
    assert bundled_bytes("ws.js") <= WEBSOCKET_LIMIT_BYTES


def test_the_types_of_the_events_are_those_that_the_schema_command_prints() -> None:
    assert (PACKAGE / "src" / "events.d.ts").read_text("utf-8") == typescript()


def test_the_type_of_a_feeds_configuration_has_the_fields_that_a_server_takes() -> None:
    types = (PACKAGE / "src" / "index.d.ts").read_text("utf-8")
    [fields] = re.findall(r"^export interface FeedConfig \{\n(.*?)^\}", types, re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"^  (\w+)\?:", fields, re.MULTILINE)) == set(FeedBody.model_fields)


def test_the_version_is_that_of_the_server_and_nothing_is_required() -> None:
    package = json.loads((PACKAGE / "package.json").read_text("utf-8"))
    assert package["version"] == broadcaster.__version__
    assert "dependencies" not in package
    assert package["peerDependenciesMeta"] == {"react": {"optional": True}}


def test_a_checkout_has_no_copy_of_the_package_for_its_console() -> None:
    assert not (Path(broadcaster.web.__file__).parent / "console" / "client").exists()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A fresh project that has installed what `npm pack` packed, without a registry."""
    npm = find_program("npm", remedy="install it, e.g. apt install npm")
    [packed] = json.loads(run(npm, "pack", "--json", "--pack-destination", str(tmp_path), cwd=PACKAGE))
    names = {each["path"] for each in packed["files"]}
    assert {"LICENSE", "README.md", "package.json", "src/index.js", "src/index.d.ts", "src/react.js"} <= names
    assert {f"adapters/{name}" for name in ("tanstack-ai.js", "tanstack-ai.d.ts", "resumable-stream.js")} <= names
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    tarball = str(tmp_path / packed["filename"])
    run(npm, "install", "--offline", "--no-audit", "--no-fund", "--loglevel=error", tarball, cwd=folder)
    return folder


async def test_a_fresh_project_installs_it_and_watches_with_strict_types(project: Path, server: SseServer) -> None:
    (project / "use.mjs").write_text(USE)
    use = ("node", "use.mjs", f"{server.url}/v1/streams/s/events")
    assert await asyncio.to_thread(run, *use, cwd=project) == "Héllo\u2028\n"
    compiler = FOLDER / "node_modules" / "typescript" / "bin" / "tsc"
    if not compiler.exists():
        lacking("no TypeScript found: make compat-modules")
    (project / "typed.ts").write_text(TYPED)
    options = ("--strict", "--noEmit", "--target", "es2022", "--lib", "es2022,dom", "--skipLibCheck", "false")
    check = ("node", str(compiler), *options, "--module", "nodenext", "typed.ts")
    await asyncio.to_thread(run, *check, cwd=project)


def test_every_name_that_the_package_exports_stands_in_its_documents() -> None:
    documents = (ROOT / "docs" / "javascript.md").read_text("utf-8")
    exports = json.loads((PACKAGE / "package.json").read_text("utf-8"))["exports"]
    named: set[str] = set()
    for module in exports.values():
        source = (PACKAGE / module["default"]).read_text("utf-8")
        named |= set(re.findall(r"^export (?:async )?(?:function|const|class)\*? (\w+)", source, re.MULTILINE))
        for names in re.findall(r"^export \{([^}]*)\}", source, re.MULTILINE):
            named |= {name.split(" as ")[-1].strip() for name in names.split(",") if name.strip()}
    assert named >= {"watch", "eventsUrl", "useStream"}
    assert [name for name in sorted(named) if not re.search(rf"\b{name}\b", documents)] == []
