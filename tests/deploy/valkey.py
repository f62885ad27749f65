"""The server as deploy/redis starts it: its script, configuration and users, on a free port of the loopback."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broadcaster.log.redis.embedded import find_server
from broadcaster.process.lifeline import die_with_parent
from tests.deploy.files import DEPLOY, FILLED_IN
from tests.support.servers.ports import free_port

ADMIN: Final = "admin-" + FILLED_IN
_READY_S: Final = 20.0
_WRITTEN_S: Final = 10.0
_POLL_S: Final = 0.01


@dataclass
class DeployedValkey:
    """One server over one folder; its port stays the same when it is started again."""

    folder: Path
    port: int
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None

    def url(self, user: str, password: str) -> str:
        """URL for one of the users of users.acl."""
        return f"redis://{user}:{password}@127.0.0.1:{self.port}/0"

    @property
    def admin_url(self) -> str:
        return self.url("admin", ADMIN)

    def start(self) -> None:
        """Run start.sh, and wait until the health check's user gets its PONG."""
        self.folder.mkdir(exist_ok=True)
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                # What comes after the configuration wins: only where it listens is the test's own.
                ["/bin/sh", str(DEPLOY / "redis" / "start.sh"), "--port", str(self.port), "--bind", "127.0.0.1"],
                env={
                    "PATH": os.environ["PATH"],
                    "VALKEY_SERVER": os.environ.get("REDIS_BIN") or str(find_server()),
                    "VALKEY_DATA": str(self.folder),
                    **self.environment,
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,  # noqa: PLW1509  between fork and exec it makes one system call
            )
        deadline = time.monotonic() + _READY_S
        while b"+PONG" not in self.call("AUTH health -", "PING"):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server did not start: {self.logged()[-1000:]}")
            time.sleep(_POLL_S)

    def call(self, *commands: str) -> bytes:
        """Send these lines and return all that is answered; nothing when it cannot be reached."""
        answer = b""
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), timeout=2.0) as connection,
        ):
            connection.sendall("".join(f"{each}\r\n" for each in (*commands, "QUIT")).encode())
            while part := connection.recv(65536):
                answer += part
        return answer

    def logged(self) -> str:
        """Its log."""
        return (self.folder / "server.log").read_text("utf-8", "replace")

    def kill(self) -> None:
        """SIGKILL, once all that was acknowledged so far is in the append-only file (it may be two seconds behind)."""
        mark = secrets.token_hex(16)
        assert b"+OK" in self.call(f"AUTH admin {ADMIN}", f"SET mark {mark} PX 60000")
        deadline = time.monotonic() + _WRITTEN_S
        while not any(mark.encode() in path.read_bytes() for path in self.folder.glob("appendonlydir/*")):
            if time.monotonic() > deadline:
                raise RuntimeError("the append-only file is not written")
            time.sleep(_POLL_S)
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM. Idempotent."""
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(10)


@contextmanager
def start_deployed(folder: Path, environment: Mapping[str, str]) -> Iterator[DeployedValkey]:
    """A running one, gone when the block ends."""
    server = DeployedValkey(folder, free_port(), environment)
    try:
        server.start()
        yield server
    finally:
        server.stop()
