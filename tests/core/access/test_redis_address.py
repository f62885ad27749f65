"""Redis URLs: what each names, and errors that explain without quoting the URL."""

from __future__ import annotations

import pytest

from broadcaster.core.access.redis_address import RedisAddress, RedisKind
from broadcaster.errors import SetupError

SECRET = "do-not-show-me"

READ: dict[str, RedisAddress] = {
    "redis://h": RedisAddress(RedisKind.SINGLE),
    "rediss://h:6380/2": RedisAddress(RedisKind.SINGLE, is_tls=True),
    "unix:///run/redis.sock": RedisAddress(RedisKind.SINGLE),
    "redis+sentinel://a,b:26380,[::1],[::2]:1/mymaster": RedisAddress(
        RedisKind.SENTINEL, hosts=(("a", 26379), ("b", 26380), ("::1", 26379), ("::2", 1)), service="mymaster"
    ),
    "redis+sentinel://me:p%40ss%2C@a/my%20master/3": RedisAddress(
        RedisKind.SENTINEL, hosts=(("a", 26379),), service="my master", db=3, username="me", password="p@ss,"
    ),
    "rediss+sentinel://:pw@a/s?sentinel_username=u&sentinel_password=a%26b&ssl_cert_reqs=none": RedisAddress(
        RedisKind.SENTINEL,
        is_tls=True,
        hosts=(("a", 26379),),
        service="s",
        password="pw",
        options={"sentinel_username": "u", "sentinel_password": "a&b", "ssl_cert_reqs": "none"},
    ),
    "redis+cluster://a,b:7001": RedisAddress(RedisKind.CLUSTER, hosts=(("a", 6379), ("b", 7001))),
    "rediss+cluster://me:pw@a:7000/0?ssl_ca_certs=/ca.pem": RedisAddress(
        RedisKind.CLUSTER,
        is_tls=True,
        hosts=(("a", 7000),),
        username="me",
        password="pw",
        options={"ssl_ca_certs": "/ca.pem"},
    ),
}

WRONG: dict[str, tuple[str, str]] = {
    # what is wrong, and a part of the error
    "another scheme": (f"http://:{SECRET}@a", "begin with"),
    "no scheme": (f"{SECRET}@a", "begin with"),
    "no host": (f"redis://:{SECRET}@", "name a host"),
    "a port alone": (f"redis://:{SECRET}@:6379", "name a host"),
    "several single servers": (f"redis://:{SECRET}@a,b", "redis+cluster://"),
    "a port that is a word": (f"redis+cluster://a:{SECRET}", "number"),
    "a port beyond all ports": (f"redis+cluster://:{SECRET}@a:65536", "number"),
    "an address without brackets": (f"redis+cluster://:{SECRET}@::1", "brackets"),
    "a bracket that is not closed": (f"redis+cluster://:{SECRET}@[::1", "brackets"),
    "a hole between the hosts": (f"redis+cluster://:{SECRET}@a,,b", "commas"),
    "no hosts at all": (f"redis+cluster://:{SECRET}@,", "name a host"),
    "a password with a raw slash": (f"redis+cluster://me:{SECRET}/x@a", "written %3A"),
    "a password with a raw hash": (f"redis+cluster://me:{SECRET}#x@a", "%23"),
    "no name of the primary": (f"redis+sentinel://:{SECRET}@a", "name the primary"),
    "a database that is a word": (f"redis+sentinel://:{SECRET}@a/s/{SECRET}", "number"),
    "a cluster's database": (f"redis+cluster://:{SECRET}@a/1", "database 0"),
    "an option nobody reads": (f"redis+cluster://a?{SECRET}=1", "options"),
    "a cluster with a Sentinel's password": (f"redis+cluster://a?sentinel_password={SECRET}", "options"),
    "certificates without TLS": (f"redis+sentinel://a/s?ssl_keyfile=/{SECRET}", "rediss+sentinel://"),
    "a socket without a path": (f"unix://:{SECRET}@", "socket"),
}


@pytest.mark.parametrize("url", READ)
def test_each_url_is_parsed_into_its_parts(url: str) -> None:
    assert RedisAddress.read(url) == READ[url]


@pytest.mark.parametrize("name", WRONG)
def test_an_error_does_not_repeat_the_url(name: str) -> None:
    url, word = WRONG[name]

    with pytest.raises(SetupError) as refused:
        RedisAddress.read(url)

    assert word in refused.value.detail
    assert SECRET not in refused.value.detail


def test_the_password_stays_out_of_the_repr() -> None:
    url = f"redis+sentinel://me:{SECRET}@a/s?sentinel_password={SECRET}"

    assert SECRET not in repr(RedisAddress.read(url))
