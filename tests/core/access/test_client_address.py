"""The address of a client: what a client writes itself never counts, and an IPv6 network counts once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.core.access.client_address import counted_address

PEER, CLIENT, FORGED = "10.0.0.1", "203.0.113.7", "198.51.100.9"


@pytest.mark.parametrize(
    ("forwarded", "proxies", "counted"),
    [
        ([], 0, PEER),
        ([CLIENT], 0, PEER),
        ([], 1, PEER),
        ([CLIENT], 1, CLIENT),
        ([f"{FORGED}, {CLIENT}"], 1, CLIENT),
        ([FORGED, CLIENT], 1, CLIENT),
        ([f"{FORGED},{CLIENT} , 10.0.0.2"], 2, CLIENT),
        ([CLIENT], 2, CLIENT),
        ([f"{FORGED}, unknown"], 1, PEER),
        ([f"{CLIENT}, unknown, 10.0.0.2"], 3, "10.0.0.2"),
        ([""], 1, PEER),
        ([f"{CLIENT}:5123"], 1, CLIENT),
        ([f"[2001:db8::7]:443, [::ffff:{CLIENT}]"], 1, CLIENT),
        (["2001:db8:1:2:3:4:5:6"], 1, "2001:db8:1:2::/64"),
        (["[2001:db8:1:2::9]:443"], 1, "2001:db8:1:2::/64"),
        (["fe80::1%eth0"], 1, "fe80::/64"),
    ],
)
def test_the_address_is_counted_from_the_right(forwarded: list[str], proxies: int, counted: str) -> None:
    assert counted_address(PEER, forwarded, trusted_proxies=proxies) == counted


def test_a_unix_socket_has_no_address_but_its_proxy_may_name_one() -> None:
    assert counted_address("", [CLIENT], trusted_proxies=0) == ""
    assert counted_address("", [CLIENT], trusted_proxies=1) == CLIENT


@given(st.lists(st.text(max_size=20), max_size=5), st.integers(1, 3))
def test_whatever_a_client_sends_first_changes_nothing(sent: list[str], proxies: int) -> None:
    written = [CLIENT, *(f"10.0.0.{at}" for at in range(2, proxies + 1))]
    assert counted_address(PEER, [*sent, ", ".join(written)], trusted_proxies=proxies) == CLIENT
