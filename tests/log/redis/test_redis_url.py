"""The Redis URL in this room: its secrets are for the nodes alone, and its TLS is redis-py's."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import pytest

from broadcaster import Broadcaster
from broadcaster.errors import SetupError
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.url import RedisKind, RedisUrl
from broadcaster.sync import Publisher

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
    assert node.tls.get().verify_mode is ssl.CERT_NONE
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


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("redis://h?ssl_cert_reqs=none", "the option ssl_cert_reqs needs TLS: write rediss:// in place of redis://"),
        ("unix:///run/redis.sock?ssl_ca_certs=/ca.pem", "the option ssl_ca_certs needs TLS: leave it out"),
        ("unix:///run/redis.sock?socket_keepalive=true", "the option socket_keepalive is none"),
        ("redis://h?decode_responses=true", "the option decode_responses is none that a Redis URL can have"),
        (f"redis://h?db=2&{SECRET}=1", "option 2 after the ? is none that a Redis URL can have"),
        (f"rediss+cluster://h?ssl_{SECRET}=1", "option 1 after the ? is none"),
    ],
)
def test_an_option_that_connections_do_not_have_is_refused_with_a_remedy(url: str, text: str) -> None:
    with pytest.raises(SetupError) as refused:
        RedisUrl.parse(url)

    assert text in refused.value.detail
    assert "ssl_cert_reqs" in refused.value.detail or not url.startswith("rediss")
    assert SECRET not in refused.value.detail


@pytest.mark.parametrize(
    "url",
    [
        "redis://h?db=3&client_name=x&encoding=latin-1&health_check_interval=1&socket_keepalive=true&protocol=3",
        "redis://h?socket_timeout=1&max_connections=2&timeout=1&retry_on_timeout=true&empty=",
        "rediss://h?ssl_cert_reqs=none&ssl_check_hostname=false&ssl_min_version=771&ssl_ciphers=DEFAULT",
        "unix:///run/redis.sock?db=2&socket_timeout=1",
        "rediss+sentinel://h/service?sentinel_username=u&ssl_cert_reqs=none",
    ],
)
async def test_options_that_redis_py_takes_from_a_url_are_taken_and_make_a_connection(url: str) -> None:
    async with LogConnection(url) as connection:
        assert connection.address == RedisUrl.parse(url)
        if connection.address.kind is RedisKind.SINGLE:
            connection.redis.connection_pool.make_connection()


@pytest.mark.parametrize("program", [Broadcaster.from_url, Publisher.from_url])
def test_a_program_with_such_an_option_is_refused_before_its_first_event(program: Callable[[str], object]) -> None:
    with pytest.raises(SetupError, match="needs TLS"):
        program("redis://h?ssl_cert_reqs=none")
