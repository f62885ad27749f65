"""The hook for React where a server renders, as Next.js does with client components."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from tests.compat.node_clients import FOLDER, require_modules

MODULES = FOLDER / "node_modules"


def test_a_server_renders_the_empty_state_whatever_server_the_stream_is_on(tmp_path: Path) -> None:
    node = require_modules()
    script = str(Path(__file__).with_name("render_on_server.mjs"))
    bundle = (str(MODULES / ".bin/esbuild"), script, "--bundle", "--platform=node", f"--outfile={tmp_path / 'run.cjs'}")
    environment = {**os.environ, "NODE_PATH": str(MODULES)}
    subprocess.run([*bundle, "--log-level=error"], check=True, timeout=60, env=environment)
    options = [{}, {"server": "/llm"}, {"server": "https://api.example/llm"}]
    command = [node, "run.cjs", json.dumps(options)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ['<p data-connection="connecting">queued: </p>'] * 3
