"""The real packages ``ai`` 6 and 7 under node, as a page's chat: bodies are served to them on a free port."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.compat.node_clients import FOLDER, require_modules

DRIVER = FOLDER / "ai_sdk_chat.mjs"
DEADLINE_S = 100


@contextmanager
def served(bodies: Sequence[Sequence[bytes]]) -> Iterator[list[str]]:
    """A URL for each; it answers with the first body, then with the next …, at last always with the last one."""
    left = {f"/{at}": list(each) for at, each in enumerate(bodies)}

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            waiting = left[self.path]
            body = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield [f"http://127.0.0.1:{server.server_port}{path}" for path in left]
        finally:
            server.shutdown()
            thread.join()


def run_driver(version: int, urls: Sequence[str], *options: str) -> list[dict[str, Any]]:
    """What the chat of this version shows after each URL."""
    command = [require_modules(), str(DRIVER), "--version", str(version), *options]
    command += [word for url in urls for word in ("--url", url)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.split("\n") if line]


def read_by_package(version: int, bodies: Sequence[Sequence[bytes]], *options: str) -> list[dict[str, Any]]:
    """What the chat of this version shows after each of these bodies."""
    with served(bodies) as urls:
        return run_driver(version, urls, *options)
