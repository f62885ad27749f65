"""The maxmemory of an embedded server that the settings give none: the container must not end it for its memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.embedded import EmbeddedServer, fitting_bytes
from broadcaster.settings import Settings
from tests.conftest import server_binary

MB, GB = 2**20, 2**30


def container(folder: Path, limit: str) -> Path:
    """A root whose process is in a control group with this limit."""
    for name, text in {"proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": limit}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return folder


@pytest.mark.parametrize("limit", [256 * MB, GB])
def test_it_is_a_quarter_of_a_small_containers_memory(tmp_path: Path, limit: int) -> None:
    assert fitting_bytes(container(tmp_path, str(limit))) == limit // 4


@pytest.mark.parametrize("limit", ["max", str(64 * GB)])
def test_in_a_large_container_it_is_what_it_is_on_the_machine_and_one_gibibyte_at_most(
    tmp_path: Path, limit: str
) -> None:
    on_machine = fitting_bytes(tmp_path / "none")
    assert fitting_bytes(container(tmp_path, limit)) == on_machine <= GB


async def test_a_server_has_it_where_the_settings_have_none(tmp_path: Path) -> None:
    assert Settings().embedded_max_memory_bytes is None
    server = EmbeddedServer(tmp_path, binary=server_binary())
    await server.start()
    try:
        async with LogConnection(server.url) as connection:
            config = await connection.redis.config_get("maxmemory")
    finally:
        await server.stop()
    assert config["maxmemory"] == str(fitting_bytes())
