"""A real server for tests: started in a folder, killed, paused and restarted as a test requests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from broadcaster.log.redis.embedded import MAX_SOCKET_PATH_BYTES, find_server
from broadcaster.process.lifeline import die_with_parent
from tests.support.servers.ports import free_port

_READY_S: Final = 20.0
_END_S: Final = 5.0
_POLL_S: Final = 0.005


class ValkeyServer:
    """One server process over one folder. ``port`` None: a unix socket; 0: a free port of the loopback; else that port.

    ``binary`` comes from the environment variable ``REDIS_BIN`` when that is set, so that one suite serves all servers.
    ``config`` is a file that the server reads first, and rewrites on command. ``environment`` comes on top of ours.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        appendonly: bool = False,
        options: Sequence[str] = (),
        binary: Path | None = None,
        config: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._environment = None if environment is None else {**os.environ, **environment}
        self._folder = folder
        self._port = free_port() if port == 0 else port
        self._socket = folder / "s"
        self._appendonly = appendonly
        self._options = tuple(options)
        self._binary = binary
        self._config = () if config is None else (str(config),)
        self._process: subprocess.Popen[bytes] | None = None
        if self._port is None and len(bytes(self._socket)) >= MAX_SOCKET_PATH_BYTES:
            raise ValueError(f"the folder's path is too long for a socket: {folder}")

    @property
    def url(self) -> str:
        """``unix://`` or ``redis://`` URL of the server."""
        return f"unix://{self._socket}" if self._port is None else f"redis://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """Process id; RuntimeError when it does not run."""
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError("the server does not run")
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it answers PING."""
        self._socket.unlink(missing_ok=True)
        where = (
            ("--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700")
            if self._port is None
            else ("--port", str(self._port), "--bind", "127.0.0.1")
        )
        self._process = subprocess.Popen(
            [
                str(self._binary or server_binary()),
                *self._config,
                *where,
                *("--dir", str(self._folder), "--save", "", "--daemonize", "no"),
                *("--appendonly", "yes" if self._appendonly else "no", "--appendfsync", "always"),
                *("--logfile", str(self._folder / "server.log")),
                *self._options,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self._environment,
            preexec_fn=die_with_parent,  # noqa: PLW1509  between fork and exec it makes one system call
        )
        deadline = time.monotonic() + _READY_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server did not start: {(self._folder / 'server.log').read_text()[-500:]}")
            time.sleep(_POLL_S)

    def kill(self) -> None:
        """SIGKILL: nothing more is written down."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when it takes too long. Idempotent."""
        if self._process is not None and self._process.poll() is None:
            self.resume()
            self._end(signal.SIGTERM)

    def pause(self) -> None:
        """SIGSTOP: it keeps its connections and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> None:
        """Stop (when it runs) and start over the same folder, under the same URL."""
        self.stop()
        self.start()

    def _end(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        family = socket.AF_UNIX if self._port is None else socket.AF_INET
        with socket.socket(family) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(self._socket) if self._port is None else ("127.0.0.1", self._port))
                probe.sendall(b"PING\r\n")
                return probe.recv(64).startswith((b"+PONG", b"-NOAUTH"))
            except OSError:
                return False


@contextmanager
def start_valkey(
    folder: Path,
    *,
    port: int | None = None,
    appendonly: bool = False,
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[ValkeyServer]:
    """A running server, gone when the block ends. ``options`` are further arguments of its command line."""
    server = ValkeyServer(folder, port=port, appendonly=appendonly, options=options, environment=environment)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def server_binary() -> Path:
    """The engine of this run."""
    return Path(os.environ.get("REDIS_BIN") or find_server())
