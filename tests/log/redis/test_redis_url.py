"""The Redis URL in this room: its secrets are for the nodes alone, and its TLS is redis-py's."""

from __future__ import annotations

import ssl

import pytest

from broadcaster.errors import SetupError
from broadcaster.log.redis.url import RedisKind, RedisUrl

SECRET = "do-not-show-me"


def test_a_single_server_is_left_to_redis_py() -> None:
    url = RedisUrl.parse("redis://me:p%40ss@example.test:7000/3")

    assert (url.kind, url.hosts, url.url) == (RedisKind.SINGLE, (), "redis://me:p%40ss@example.test:7000/3")


def test_a_node_is_reached_with_the_credentials_of_data_nodes_not_of_sentinels() -> None:
    url = RedisUrl.parse(
        "rediss+sentinel://me:pw@s1,s2/service/4?sentinel_username=s&sentinel_password=spw&ssl_cert_reqs=none"
    )
    node = url.node("10.0.0.1", 7000)

    assert (url.hosts, url.service, url.db) == ((("s1", 26379), ("s2", 26379)), "service", 4)
    assert (url.options["sentinel_username"], url.options["sentinel_password"]) == ("s", "spw")
    assert url.tls == {"ssl_cert_reqs": "none"}
    assert (node.host, node.port, node.greeting()) == ("10.0.0.1", 7000, ("AUTH", "me", "pw"))
    assert node.tls is not None
    assert node.tls.verify_mode is ssl.CERT_NONE
    assert url.node("10.0.0.2", 7000).tls is node.tls


def test_without_tls_a_node_is_reached_without() -> None:
    url = RedisUrl.parse("redis+cluster://h1,h2")

    assert url.tls is None
    assert url.node("h1", 6379).tls is None


def test_nothing_shows_a_secret() -> None:
    url = RedisUrl.parse(f"redis+sentinel://me:{SECRET}@s1/service?sentinel_password={SECRET}")

    assert SECRET not in repr(url)
    assert SECRET not in repr(url.node("h", 1))


def test_certificates_that_cannot_be_read_are_a_fault_of_the_set_up() -> None:
    with pytest.raises(SetupError) as refused:
        RedisUrl.parse(f"rediss+cluster://:{SECRET}@h1?ssl_ca_certs=/nowhere.pem")

    assert SECRET not in refused.value.detail
