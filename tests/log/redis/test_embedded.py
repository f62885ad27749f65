"""The embedded server: chosen, started, dying with its parent, keeping its data."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog

from broadcaster.errors import SetupError
from broadcaster.log.redis import embedded
from broadcaster.log.redis.connect import LogConnection, later
from broadcaster.log.redis.embedded import EmbeddedServer, find_server, socket_path
from broadcaster.process.tasks import end_tasks, running
from tests.conftest import server_binary
from tests.support.log.log_world import until


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


async def until_dead(pid: int) -> None:
    async with asyncio.timeout(20):
        while alive(pid):
            await asyncio.sleep(0.01)


async def test_a_written_key_survives_kill_9_and_a_supervised_restart(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path, binary=server_binary())
    await server.start()
    supervised = asyncio.create_task(server.supervise())
    async with LogConnection(server.url) as connection:
        await connection.redis.config_set("appendfsync", "always")
        await connection.redis.set("k", "v")
        first = server.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        async with asyncio.timeout(20):
            while server.pid in (None, first):
                await asyncio.sleep(0.01)
            while True:
                try:
                    value = await connection.redis.get("k")
                    break
                except Exception as error:
                    if not later(error):
                        raise
                    await asyncio.sleep(0.01)
    assert value == b"v"
    supervised.cancel()
    last = server.pid
    assert last is not None
    await server.stop()
    await until_dead(last)


async def test_the_embedded_server_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import asyncio, sys, time
        from pathlib import Path
        from broadcaster.log.redis.embedded import EmbeddedServer
        server = EmbeddedServer(Path(sys.argv[1]), binary=Path(sys.argv[2]))
        asyncio.run(server.start())
        print("server", server.pid, flush=True)
        time.sleep(60)
        """
    )
    command = [sys.executable, "-c", script, str(tmp_path), str(server_binary() or find_server())]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    line = ""
    while not line.startswith("server "):
        line = await asyncio.to_thread(parent.stdout.readline)
    pid = int(line.split()[1])
    assert alive(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    await until_dead(pid)


@asynccontextmanager
async def slow_to_end(data_dir: Path) -> AsyncIterator[EmbeddedServer]:
    """The server of an `up` that was killed. It has received SIGTERM, and is stopped, so that it cannot end yet."""
    server = EmbeddedServer(data_dir, binary=server_binary())
    await server.start()
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    os.kill(pid, signal.SIGTERM)
    try:
        yield server
    finally:
        if server.pid is not None:
            os.kill(pid, signal.SIGKILL)
            await until(lambda: server.pid is None)


async def test_no_server_starts_beside_one_that_has_not_ended_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "STOP_TIMEOUT_S", 0.1)
    server = EmbeddedServer(tmp_path, binary=server_binary())
    async with slow_to_end(tmp_path):
        try:
            with pytest.raises(SetupError, match=f"the data folder {tmp_path} .* BROADCASTER_DATA_DIR"):
                await server.start()
        finally:
            await server.stop()


async def test_a_server_that_ends_late_takes_no_socket_of_the_next_one_away(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path, binary=server_binary())
    async with slow_to_end(tmp_path) as old:
        starting = asyncio.create_task(server.start())
        await asyncio.sleep(0)
        assert old.pid is not None
        os.kill(old.pid, signal.SIGCONT)
        await starting
        try:
            await until(lambda: old.pid is None)
            async with LogConnection(server.url) as connection:
                assert await connection.redis.ping()
        finally:
            await server.stop()


def test_a_long_data_folder_gets_a_short_socket_path(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a-rather-long-folder-name"] * 5)
    assert len(bytes(socket_path(deep))) < embedded.MAX_SOCKET_PATH_BYTES
    assert socket_path(deep) == socket_path(deep)
    assert socket_path(deep) != socket_path(deep / "other")


def fake_server(folder: Path, name: str, version: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho 'Redis server v={version} sha=0'\n")
    path.chmod(0o755)


def test_without_the_wheel_a_server_on_the_path_is_used_if_it_is_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match="BROADCASTER_REDIS_URL"):
        find_server()
    fake_server(tmp_path, "redis-server", "6.2.14")
    with pytest.raises(SetupError, match=r"6\.2, 7\.0 or newer"):
        find_server()
    fake_server(tmp_path, "redis-server", "7.0.15")
    assert find_server() == tmp_path / "redis-server"


def test_the_program_that_the_settings_name_wins_if_it_is_new_enough(tmp_path: Path) -> None:
    fake_server(tmp_path, "mine", "7.2.0")
    fake_server(tmp_path, "old", "6.2.14")
    fake_server(tmp_path, "other", "none")
    assert find_server(str(tmp_path / "mine")) == tmp_path / "mine"
    for name, reason in (("old", r"is 6\.2; 7\.0 or newer"), ("other", "no Redis or Valkey"), ("absent", "no program")):
        with pytest.raises(SetupError, match=reason):
            find_server(str(tmp_path / name))


async def test_a_server_that_cannot_start_reports_why(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(SetupError, match="ended at its start"):
        await EmbeddedServer(tmp_path, binary=broken).start()


async def test_a_restart_that_fails_is_tried_once_more(tmp_path: Path) -> None:
    refusal, program = tmp_path / "refusal", tmp_path / "server"
    program.write_text(f'#!/bin/sh\n[ -e {refusal} ] && exit 1\nexec {server_binary() or find_server()} "$@"\n')
    program.chmod(0o755)
    server = EmbeddedServer(tmp_path / "data", binary=program)
    await server.start()
    try:
        with structlog.testing.capture_logs() as lines:
            async with running(server.supervise()):
                assert server.pid is not None
                refusal.touch()
                os.kill(server.pid, signal.SIGKILL)
                await until(lambda: any(line["event"] == "embedded_redis_not_restarted" for line in lines))
                refusal.unlink()
                await until(lambda: server.pid is not None and lines[-1]["event"] == "embedded_redis_started")
    finally:
        await server.stop()


async def test_a_start_that_is_cancelled_leaves_no_server(tmp_path: Path) -> None:
    loading = tmp_path / "loading"
    loading.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 60\n")
    loading.chmod(0o755)
    server = EmbeddedServer(tmp_path / "data", binary=loading)
    starting = asyncio.create_task(server.start())
    await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().endswith("\n"))
    pid = int((tmp_path / "pid").read_text())
    await end_tasks(starting)
    assert not alive(pid)


async def test_a_server_that_loads_for_longer_than_a_start_may_take_is_not_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of 4096 keys takes half a millisecond, and after every 1024 of them it replies that it is loading."""
    program, marker = tmp_path / "server", tmp_path / "is-slow"
    real = server_binary() or find_server()
    program.write_text(f'#!/bin/sh\n[ -f {marker} ] && set -- "$@" --key-load-delay 500\nexec {real} "$@"\n')
    program.chmod(0o755)
    server = EmbeddedServer(tmp_path / "data", binary=program)
    await server.start()
    async with LogConnection(server.url) as connection:
        pipeline = connection.redis.pipeline()
        for number in range(4096):
            pipeline.set(f"k{number}", "v")
        await pipeline.execute()
        await connection.redis.config_set("appendfsync", "always")
        await connection.redis.set("last", "v")
    marker.touch()
    monkeypatch.setattr(embedded, "START_TIMEOUT_S", 1.2)
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    async with running(server.supervise()):
        with structlog.testing.capture_logs() as lines:
            await until(lambda: any(line["event"] == "embedded_redis_started" for line in lines))
    assert [line["event"] for line in lines] == [
        "embedded_redis_died",
        "embedded_redis_loads",
        "embedded_redis_started",
    ]
    await server.stop()
