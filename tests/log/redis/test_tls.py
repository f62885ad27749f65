"""The files of TLS are renewed while a process runs: its next connections to Redis use them."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from contextlib import suppress
from pathlib import Path

import pytest

from broadcaster.errors import LogUnavailable
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.tls import RedisTls
from broadcaster.log.redis.url import RedisUrl
from tests.support.log.log_world import until
from tests.support.servers.certificates import loopback_certificate, self_signed_certificate, serving_with
from tests.support.servers.redis_relay import RedisRelay, open_redis_relay


def certificate(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return self_signed_certificate(folder / name, name=name, alternative=f"DNS:{name}")


def newest_client(relay: RedisRelay) -> str:
    """The name in the certificate that the newest client has shown."""
    *_, link = relay.links
    return dict(each[0] for each in link.client.get_extra_info("peercert")["subject"])["commonName"]


async def test_a_renewed_client_certificate_is_used_by_the_next_connections(redis_url: str, tmp_path: Path) -> None:
    own, old, new = loopback_certificate(tmp_path), certificate(tmp_path, "old"), certificate(tmp_path, "new")
    client = tmp_path / "client.pem"
    shutil.copy(old, client)
    server = serving_with(own)
    server.verify_mode = ssl.CERT_REQUIRED
    for each in (old, new):
        server.load_verify_locations(f"{each}.crt")
    async with open_redis_relay(redis_url, tls=server) as relay:
        url = f"rediss://127.0.0.1:{relay.port}?ssl_ca_certs={own}.crt&ssl_certfile={client}"
        node = RedisUrl.parse(url).node("127.0.0.1", relay.port)
        async with LogConnection(url, max_connections=1) as connection:
            await connection.ping()
            assert newest_client(relay) == "old"

            shutil.copy(new, client)
            await relay.switch(redis_url)
            await _until_answered(connection)
            assert newest_client(relay) == "new"

        await until(lambda: not relay.links)
        await node.dial(asyncio.Protocol)
        await until(lambda: bool(relay.links))
        assert newest_client(relay) == "new"


async def _until_answered(connection: LogConnection) -> None:
    async with asyncio.timeout(10):
        while True:
            with suppress(LogUnavailable):
                return await connection.ping()


def test_files_that_stay_are_loaded_once(tmp_path: Path) -> None:
    own = loopback_certificate(tmp_path)
    tls = RedisTls({"ssl_ca_certs": f"{own}.crt", "ssl_certfile": str(own)})
    assert tls.get() is tls.get()


def test_files_that_do_not_match_each_other_yet_are_loaded_once_they_do(tmp_path: Path) -> None:
    first, second = certificate(tmp_path, "first"), certificate(tmp_path, "second")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    for each in (chain, key):
        shutil.copy(first, each)
    tls = RedisTls({"ssl_certfile": str(chain), "ssl_keyfile": str(key)})
    before = tls.get()
    chain.write_bytes(Path(f"{second}.crt").read_bytes())
    with pytest.raises(ssl.SSLError):
        tls.get()
    shutil.copy(second, key)
    assert tls.get() is not before
