"""The address of a client, as bounds count it: behind proxies the one that the outermost trusted proxy has seen.

Rules
1. Each proxy appends its peer's address to ``x-forwarded-for``. With n trusted proxies the client is the n-th address
   from the right; everything further left was sent by the client, which can write there what it likes.
2. With fewer addresses the request came past a proxy: the leftmost that a trusted one has written counts.
3. What is not an address is not counted: the nearest trusted one to its right is. A socket without an address
   (a Unix socket) and without a trusted proxy has none.
4. An IPv6 client owns a /64, and counts as that network; an IPv4 address in IPv6 counts as IPv4.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

_IPV6_PREFIX: Final = 64
# Some proxies add the port; IPv6 then has brackets.
_WITH_PORT: Final = re.compile(r"\[(?P<six>[^\]]+)\](:\d+)?|(?P<four>[^:]+):\d+")


def counted_address(peer: str, forwarded: Sequence[str], *, trusted_proxies: int) -> str:
    """The client's address, or its network (rule 4); "" if it has none.

    ``peer``: of the socket; ``forwarded``: the values of ``x-forwarded-for``, in their order.
    """
    chain = [each.strip() for value in forwarded for each in value.split(",")] if trusted_proxies else []
    written = [peer, *reversed(chain)][: trusted_proxies + 1]
    found = ""
    for text in written:
        counted = _counted(text)
        if not counted and text is not peer:
            break
        found = counted
    return found


def _counted(text: str) -> str:
    bare = _WITH_PORT.fullmatch(text)
    try:
        address = ip_address((bare["six"] or bare["four"]) if bare else text)
    except ValueError:
        return ""
    if isinstance(address, IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Network((int(IPv6Address(int(address))), _IPV6_PREFIX), strict=False))
