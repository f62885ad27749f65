"""For tests of the programs in C: a compiler, and a server whose every connection gets the same chunked response."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.programs import CannotRun, Programs, find_compiler
from tests.support.servers.programs import lacking

HEAD: Final = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
DEADLINE_S: Final = 20.0


@dataclass
class Answering:
    """Where it listens, and the heads of the requests that came."""

    port: int
    requests: list[bytes] = field(default_factory=list)


@contextmanager
def answering(body: bytes, *, is_whole: bool = True, answers: int = 1) -> Iterator[Answering]:
    """Answer so many connections; ``is_whole``: the response ends as HTTP says, else it is cut."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE_S)
        server = Answering(listener.getsockname()[1])
        response = HEAD + b"%x\r\n%b\r\n" % (len(body), body) + (b"0\r\n\r\n" if is_whole else b"")

        def serve() -> None:
            for _ in range(answers):
                connection, _ = listener.accept()
                with connection:
                    head = b""
                    while b"\r\n\r\n" not in head:
                        head += connection.recv(4096)
                    server.requests.append(head)
                    connection.sendall(response)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server
        finally:
            thread.join(DEADLINE_S)
            assert not thread.is_alive()


@dataclass
class Posted:
    """Where it listens, and the bodies of the POSTs that came over its one connection."""

    port: int
    bodies: list[bytes] = field(default_factory=list)


@contextmanager
def posted(response: bytes) -> Iterator[Posted]:
    """Accept one connection and answer each of its POSTs with 200 and this body, until the client closes it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE_S)
        server = Posted(listener.getsockname()[1])

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as requests:
                while requests.readline():
                    headers = dict(line.split(b": ", 1) for line in iter(requests.readline, b"\r\n"))
                    server.bodies.append(requests.read(int(headers[b"Content-Length"])))
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(response), response))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server
        finally:
            thread.join(DEADLINE_S)
            assert not thread.is_alive()


def watch(programs: Programs, port: int, *arguments: str) -> dict[str, Any]:
    """What one viewer saw when it was done."""
    command: list[str | Path] = [programs.load, "--port", str(port), "--seconds", str(DEADLINE_S), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    seen: dict[str, Any] = json.loads(result.stdout.strip().rpartition("\n")[2])
    return seen


def until(is_true: Callable[[], bool]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + DEADLINE_S
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def needs_a_compiler() -> None:
    """Ends the test as ``lacking`` where there is none."""
    try:
        find_compiler()
    except CannotRun as error:
        lacking(str(error))
