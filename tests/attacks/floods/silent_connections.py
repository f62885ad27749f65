"""Connections that never bring a whole request, against a front-end with its default limits; takes 40 s.

    python -m tests.attacks.floods.silent_connections

Five kinds, without a key, 20 each; then more silent connections than the front-end has descriptors, while a client gets
for its health. It prints how many are left after 5, 20 and 36 s, and what the front-end logged.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.support.servers.ports import draw_ports

EACH: Final = 20
DESCRIPTORS: Final = 300
FLOOD: Final = 600
START_S: Final = 30.0
KEY: Final = "attack-attack-attack"
HEAD: Final = (
    b"POST /v1/generations HTTP/1.1\r\nHost: x\r\ncontent-type: application/json\r\ncontent-length: 4000000\r\n"
)
BODY: Final = HEAD + b"x-api-key: %b\r\n\r\n{" % KEY.encode()

# kind → the first bytes, and those that follow every second
KINDS: Final[Mapping[str, tuple[bytes, bytes]]] = {
    "silent": (b"", b""),
    "half a head, dripping": (HEAD, b"x"),
    "half a body": (BODY, b""),
    "a body, dripping": (BODY, b"x"),
    "a refused body, dripping": (HEAD + b"\r\n{", b"x"),
}


@contextmanager
def front_end(folder: Path) -> Iterator[tuple[int, Path]]:
    """The port of a front-end with few descriptors, and its log. It has no Redis: nothing here gets that far."""
    (port,) = draw_ports(1)
    environment = os.environ | {
        "BROADCASTER_REDIS_URL": "redis://127.0.0.1:1",
        "BROADCASTER_AUTH": "keys",
        "BROADCASTER_API_KEYS": json.dumps({"a": [KEY]}),
    }
    log = folder / "front-end.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["prlimit", f"--nofile={DESCRIPTORS}", sys.executable, "-m", "broadcaster", "serve", "--port", str(port)],
            env=environment,
            stdout=output,
            stderr=output,
        )
    try:
        deadline_s = time.monotonic() + START_S
        while (health := is_healthy(port)) != "200":
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline_s, health
            time.sleep(0.1)
        yield port, log
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def is_healthy(port: int) -> str:
    """The status of its health, or why there is none."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            return str(answer.status)
    except urllib.error.HTTPError as refusal:
        return str(refusal.code)
    except OSError as failure:
        return str(getattr(failure, "reason", failure))


def open_connections(port: int, sent: bytes, count: int) -> list[socket.socket]:
    connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
    for each in connections:
        each.sendall(sent)
    return connections


def is_open(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        while connection.recv(65536):
            pass
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def drip(connections: Iterable[socket.socket], sent: bytes) -> None:
    for each in connections:
        try:
            each.send(sent)
        except OSError:
            continue


def main(marks: Sequence[int] = (5, 20, 36)) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with tempfile.TemporaryDirectory() as folder, front_end(Path(folder)) as (port, log):
        held = {kind: open_connections(port, first, EACH) for kind, (first, _) in KINDS.items()}
        began = time.monotonic()
        for mark in marks:
            while time.monotonic() - began < mark:
                time.sleep(1)
                for kind, (_, more) in KINDS.items():
                    if more:
                        drip(held[kind], more)
            left = {kind: sum(map(is_open, each)) for kind, each in held.items()}
            print(f"after {mark:2} s, of {EACH}: {left}", flush=True)
        flood = open_connections(port, b"", FLOOD)
        print(f"health beside {FLOOD} silent connections, {DESCRIPTORS} descriptors: {is_healthy(port)}")
        time.sleep(18)
        print(f"18 s later: {is_healthy(port)}, {sum(map(is_open, flood))} connections left")
        print("".join(line for line in log.read_text().splitlines(keepends=True) if "connections" in line), end="")


if __name__ == "__main__":
    main()
