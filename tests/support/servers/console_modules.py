"""The pure modules of the console and of the JavaScript client, run under node, called line by line."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import broadcaster.web

CONSOLE = Path(broadcaster.web.__file__).parent / "console"
CLIENT = Path(broadcaster.web.__file__).parents[2] / "clients" / "js" / "src"

_DRIVER = """
import { createInterface } from "node:readline";
import { Fold } from "./client/fold.js";
import { SseDecoder } from "./client/sse.js";
import * as texts from "./texts.js";

const jobs = {
  fold(events) {
    const fold = new Fold();
    for (const event of events) fold.apply(event);
    return fold.state;
  },
  sse(connections) {
    let decoder = new SseDecoder();
    const messages = [];
    for (const portions of connections) {
      decoder = new SseDecoder(decoder.lastEventId);
      for (const portion of portions) messages.push(...decoder.decode(portion));
    }
    return { messages, lastEventId: decoder.lastEventId, retryMs: decoder.retryMs };
  },
  texts: ([name, ...given]) => texts[name](...given),
  async call([path, name, ...given]) {
    return (await import(`./${path}`))[name](...given);
  },
  /** The blocks of a text that comes in portions: each with its type and its text. */
  async blocks(portions) {
    const { MarkdownSource } = await import("./render/markdown/source.js");
    const source = new MarkdownSource();
    const whole = [];
    let text = "";
    const read = (isOver) => {
      source.write(text, { isOver });
      while (source.isBehind) whole.push(...source.step());
    };
    for (const portion of portions) {
      text += portion;
      read(false);
    }
    read(true);
    return whole.map(({ type, raw, text }) => [type, type === "code" ? text : raw]);
  },
  /** What is left of a job's time, in seconds, after these progresses: [done, total, ms]. */
  async left({ progresses, at }) {
    const { Eta } = await import("./render/eta.js");
    const eta = new Eta();
    for (const [done, total, ms] of progresses) eta.note({ done, total }, ms);
    return eta.secondsLeft(at);
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const [job, given] = JSON.parse(line);
  console.log(JSON.stringify({ answer: await jobs[job](given) }));
}
"""


class ConsoleModules:
    """A running node process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, job: str, given: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([job, given]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "node ended: its error is in the captured output"
        return json.loads(line).get("answer")


@contextmanager
def console_modules(folder: Path) -> Iterator[ConsoleModules]:
    """Start node on a copy of the modules in ``folder``; fails where there is no node."""
    node = shutil.which("node")
    if node is None:
        pytest.fail("node is not installed, and the console's modules are checked with it (Debian: apt install nodejs)")
    shutil.copytree(CONSOLE, folder, dirs_exist_ok=True)
    shutil.copytree(CLIENT, folder / "client")
    # Without it older versions of node take the files for CommonJS.
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "driver.js").write_text(_DRIVER)
    command = [node, str(folder / "driver.js")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        try:
            yield ConsoleModules(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(timeout=10)
