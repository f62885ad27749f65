"""The embedded server's files, folders, memory and environment: private to its user, and bounded."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from broadcaster.errors import SetupError
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.embedded import EmbeddedServer, find_server, socket_path
from tests.conftest import server_binary

MAX_BYTES = 64 * 2**20


def modes_below(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode) for path in folder.rglob("*")}


async def test_in_a_folder_that_all_users_may_read_the_servers_files_are_private_old_ones_too(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o755)
    server = EmbeddedServer(folder, binary=server_binary())
    for _ in range(2):
        await server.start()
        async with LogConnection(server.url) as connection:
            await connection.redis.set("prompt", "secret")
        modes = modes_below(folder)
        assert {"appendonlydir", "redis.log", "redis.sock"} <= modes.keys()
        assert not {name: oct(mode) for name, mode in modes.items() if mode & 0o077}
        await server.stop()
        for path in folder.rglob("*"):  # as a server without this rule left them
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


async def test_a_data_folder_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(SetupError, match=f"chmod 700 {folder}"):
        await EmbeddedServer(folder, binary=server_binary()).start()


@pytest.fixture
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A data folder whose path is too long for a socket, and the folder that its socket gets instead."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    data = tmp_path.joinpath(*["a-rather-long-folder-name"] * 5)
    return data, socket_path(data).parent


def test_the_folder_of_the_short_socket_is_private(short: tuple[Path, Path]) -> None:
    data, folder = short
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert socket_path(data).parent == folder


def test_a_socket_folder_that_others_may_write_to_is_refused(short: tuple[Path, Path]) -> None:
    data, folder = short
    folder.chmod(0o777)
    with pytest.raises(SetupError, match=f"chmod 700 {folder}"):
        socket_path(data)


def test_a_socket_folder_of_another_user_is_refused(short: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    data, _ = short
    monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
    with pytest.raises(SetupError, match="not a folder of this user"):
        socket_path(data)


def test_a_link_in_the_place_of_the_socket_folder_is_refused(short: tuple[Path, Path], tmp_path: Path) -> None:
    data, folder = short
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(SetupError, match="not a folder of this user"):
        socket_path(data)


async def test_the_embedded_server_has_a_maxmemory_and_nothing_of_our_settings_and_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-secret")
    monkeypatch.setenv("BROADCASTER_API_KEYS", "{}")
    monkeypatch.setenv("MY_DATABASE_PASSWORD", "secret")
    # The server overwrites its own environment with its title, so /proc would show nothing in any case.
    given, shown = tmp_path / "server", tmp_path / "environment"
    given.write_text(f'#!/bin/sh\nenv > {shown}\nexec {server_binary() or find_server()} "$@"\n')
    given.chmod(0o700)
    server = EmbeddedServer(tmp_path / "data", binary=given, max_memory_bytes=MAX_BYTES)
    await server.start()
    try:
        async with LogConnection(server.url) as connection:
            config = await connection.redis.config_get("maxmemory*")
    finally:
        await server.stop()
    assert (config["maxmemory"], config["maxmemory-policy"]) == (str(MAX_BYTES), "noeviction")
    environment = shown.read_text()
    assert "PATH=" in environment
    assert "secret" not in environment
    assert "BROADCASTER" not in environment
