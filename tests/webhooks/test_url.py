"""Where a webhook may go: spellings, lists, addresses."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.errors import WebhookNotAllowed
from broadcaster.webhooks.url import WebhookHosts, WebhookUrl, canonical_host, is_public

LISTED = WebhookHosts(
    ["hooks.example.com", "*.example.net", "*.example.net:8443", "localhost:*", "127.0.0.1", "[::1]:9000", "10.0.0.7"]
)
ANY = WebhookHosts(["*"])


@pytest.mark.parametrize(
    ("text", "authority", "target"),
    [
        ("https://hooks.example.com", "hooks.example.com", "/"),
        ("HTTPS://Hooks.Example.COM.:443/a/b?c=d&e", "hooks.example.com", "/a/b?c=d&e"),
        ("https://hooks.example.com?x", "hooks.example.com", "/?x"),
        ("https://a.b.example.net:8443/%2F", "a.b.example.net:8443", "/%2F"),
        ("http://localhost:9000/h", "localhost:9000", "/h"),
        ("http://[::1]:9000/h", "[::1]:9000", "/h"),
        ("https://10.0.0.7/", "10.0.0.7", "/"),
    ],
)
def test_a_listed_url_is_admitted_in_its_parts(text: str, authority: str, target: str) -> None:
    url = LISTED.admit(text)
    assert (url.authority, url.target) == (authority, target)


@pytest.mark.parametrize(
    "text",
    [
        "https://example.com/",  # the neighbours of what is listed
        "https://example.net/",
        "https://evilexample.net/",
        "https://hooks.example.com.evil.org/",
        "https://10.0.0.8/",
        "http://hooks.example.com/",  # not this machine
        "http://10.0.0.7/",
        "https://user@hooks.example.com/",
        "https://user:s3cret@hooks.example.com/",
        "https://hooks.example.com@evil.org/",
        "https://evil.org#@hooks.example.com/",
        "https://evil.org\\@hooks.example.com/",
        "https://hooks.example.com/#part",
        "https://hooks.example.com/a b",
        "https://hooks.example.com/a\r\nHost: evil.org",
        "https://hooks.example.com/\N{LATIN SMALL LETTER E WITH ACUTE}",
        "https://hooks.exampl\N{LATIN SMALL LETTER E WITH ACUTE}.com/",
        "https://hooks.example.com:0/",
        "https://hooks.example.com:65536/",
        "https://hooks.example.com:/",
        "https://hooks..example.com/",
        "https://-x.example.net/",
        "https://hooks.example.com:8443/",  # a port that is not listed
        "https://a.example.net:8444/",
        "http://127.0.0.1:22/",
        "http://127.0.0.1:6379/",
        "http://[::1]/",
        "https://10.0.0.7:22/",
        "https://[::1%25lo]/",
        "https://[fe80::1]/",
        "https:///hooks.example.com/",
        "https:hooks.example.com",
        "//hooks.example.com/",
        "ftp://hooks.example.com/",
        "file:///etc/passwd",
        "",
        "https://hooks.example.com/" + "a" * 2048,
    ],
)
def test_a_url_that_is_not_listed_or_can_be_read_in_two_ways_is_refused(text: str) -> None:
    with pytest.raises(WebhookNotAllowed) as refused:
        LISTED.admit(text)
    assert "s3cret" not in refused.value.detail


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "127.0.0.1.",
        "0",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "198.18.0.1",
        "192.0.2.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "[::]",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:169.254.169.254]",
        "[::7f00:1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:7f00:1::]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "[fec0::1]",
        "[ff02::1]",
        "[2001:db8::1]",
        "[2001:0:7f00:1::1]",
        "[3fff::1]",
        "192.0.0.8",
        "192.88.99.1",
        "localhost",
        "LOCALHOST.",
        "my.localhost",
    ],
)
@pytest.mark.parametrize("scheme", ["https", "http"])
def test_any_host_means_any_public_one(host: str, scheme: str) -> None:
    with pytest.raises(WebhookNotAllowed):
        ANY.admit(f"{scheme}://{host}/")


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "64:ff9b::101:101"])
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(ip_address(address))
    host = f"[{address}]" if ":" in address else address
    assert ANY.admit(f"https://{host}/").literal is not None


@pytest.mark.parametrize(
    ("url", "address", "may"),
    [
        ("https://a.example.net/", "1.1.1.1", True),
        ("https://a.example.net/", "10.0.0.7", False),
        ("https://a.example.net/", "::1", False),
        ("https://hooks.example.com/", "10.0.0.7", True),
        ("https://hooks.example.com/", "fd00::1", True),
        ("https://hooks.example.com/", "127.0.0.1", True),
        ("https://hooks.example.com/", "169.254.169.254", False),
        ("https://hooks.example.com/", "::ffff:169.254.169.254", False),
        ("https://hooks.example.com/", "fe80::1", False),
        ("https://hooks.example.com/", "0.0.0.0", False),
        ("https://hooks.example.com/", "ff02::1", False),
        ("http://localhost/", "127.0.0.1", True),
        ("http://localhost/", "::1", True),
        ("http://localhost/", "10.0.0.7", False),
        ("http://localhost/", "1.1.1.1", False),
    ],
)
def test_the_resolved_address_decides(url: str, address: str, may: bool) -> None:
    assert LISTED.may_reach(WebhookUrl.parse(url), ip_address(address)) is may


def test_a_link_local_address_is_reached_only_when_it_is_listed_itself() -> None:
    listed = WebhookHosts(["169.254.169.254"])
    url = listed.admit("https://169.254.169.254/")
    assert url.literal is not None
    assert listed.may_reach(url, url.literal)


def test_without_a_list_webhooks_are_off_and_the_error_names_the_remedy() -> None:
    with pytest.raises(WebhookNotAllowed, match="BROADCASTER_WEBHOOK_HOSTS"):
        WebhookHosts().admit("https://hooks.example.com/")


@pytest.mark.parametrize("pattern", ["", "*.", "*.*", "a.*", "https://a.example", "*a.example", "1.2"])
def test_a_pattern_that_would_never_match_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError):
        WebhookHosts([pattern])


@given(st.text(max_size=40))
def test_a_host_has_one_spelling_or_none(text: str) -> None:
    try:
        host = canonical_host(text)
    except ValueError:
        return
    assert canonical_host(host) == host


@given(st.text(alphabet="htps:/[]@.\\#?a1:x%- \r\n", max_size=30))
def test_a_parsed_url_formats_to_the_same_url(tail: str) -> None:
    try:
        url = WebhookUrl.parse("https://" + tail)
    except WebhookNotAllowed:
        return
    assert WebhookUrl.parse(f"{url.scheme}://{url.authority}{url.target}") == url


def test_an_exact_entry_decides_alone_which_ports_its_host_has() -> None:
    hosts = WebhookHosts(["*:*", "10.0.0.7:8443", "10.0.0.7:9443"])
    assert hosts.admit("https://any.example.org:1234/").port == 1234
    assert [hosts.admit(f"https://10.0.0.7:{port}/").port for port in (8443, 9443)] == [8443, 9443]
    for url in ("https://10.0.0.7:22/", "https://10.0.0.7/"):
        with pytest.raises(WebhookNotAllowed, match=r"HOST:PORT|no public"):
            hosts.admit(url)


@pytest.mark.parametrize("pattern", ["a.example:0", "a.example:65536", "a.example:x", "a.example:", "*:", "[::1]:x"])
def test_a_port_that_is_none_is_refused_in_the_settings(pattern: str) -> None:
    with pytest.raises(ValueError):
        WebhookHosts([pattern])


def test_addresses_of_version_6_are_listed_with_and_without_brackets_and_ports() -> None:
    for pattern, url in (("::1", "https://[::1]/"), ("[::1]", "http://[::1]/"), ("[::1]:8080", "https://[::1]:8080/")):
        assert WebhookHosts([pattern]).admit(url).host == "::1"
