"""Where a webhook may go: the operator's list of hosts, and the addresses they may turn out to have (SSRF).

Rules
1. A URL is parsed here once, by one strict pattern; what we connect to is built from these parts and never parsed by
   another parser. Names are plain ASCII (``xn--`` for others); no user, no password, no fragment.
2. A host is listed exactly (``hooks.example.com``), by the domain above it (``*.example.com``: not the domain itself),
   or by ``*``, any host. With an empty list webhooks are off. Each may name a port (``hooks.example.com:8443``), or any
   (``hooks.example.com:*``); without one it means 443, and 80 for ``http``. A host that is listed exactly is reached at
   the ports of its own entries alone.
3. A host that is not listed exactly is reached at public addresses only. An exactly listed host may be in a private
   network, but a name never leads to link-local, multicast or unspecified addresses: metadata services listen there.
4. ``http`` is for this machine only (``localhost``, ``127.0.0.1``, ``[::1]``, listed exactly); else ``https``.
5. A host that ends in a number is an IPv4 address in its one usual form, or refused: ``2130706433``, ``0x7f.1`` and
   ``0177.0.0.1`` are spellings of 127.0.0.1 to some resolvers (URL standard, "ends in a number checker").

The address is checked when it is resolved, just before the connection is made to that address and no other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, Literal, TypeAlias, cast

from broadcaster.errors import WebhookNotAllowed

MAX_URL_CHARS: Final = 2048
_MAX_NAME_CHARS: Final = 253
_PORTS: Final = {"http": 80, "https": 443}
_ANY_PORT: Final = "*"
_DEFAULT_PORT: Final = ""

# Printable ASCII, without the characters that some parser treats as a delimiter or drops.
_TARGET: Final = r"[!$-;=?-Z\[\]_a-z~]*"
_URL: Final = re.compile(
    rf"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>[0-9]{{1,5}}))?(?P<target>[/?]{_TARGET})?",
    re.ASCII | re.IGNORECASE,
)
_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)

# Of special purpose, and public to the ipaddress module of some Python versions (RFC 6890, 7526, 9637).
_SPECIAL: Final = (ip_network("192.0.0.0/24"), ip_network("192.88.99.0/24"), ip_network("3fff::/20"))

# Addresses that carry an IPv4 address inside: NAT64 (RFC 6052) and the old IPv4-compatible ones (RFC 4291, 2.5.5.1).
_NAT64: Final = 0x0064_FF9B << 96
_COMPATIBLE_BELOW: Final = 1 << 32

Address: TypeAlias = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class WebhookUrl:
    """A URL in its parts: ``host`` in lower case and without brackets, ``target`` the path with its query."""

    scheme: Literal["http", "https"]
    host: str
    port: int
    target: str

    @classmethod
    def parse(cls, text: str) -> WebhookUrl:
        """Raises WebhookNotAllowed, whose text repeats nothing of the URL."""
        match = _URL.fullmatch(text) if len(text) <= MAX_URL_CHARS else None
        if match is None:
            raise WebhookNotAllowed(
                f"a webhook's url is https://host[:port]/path in at most {MAX_URL_CHARS} plain ASCII characters, "
                "without user, password or fragment"
            )
        scheme = cast(Literal["http", "https"], match["scheme"].lower())
        port = int(match["port"]) if match["port"] else _PORTS[scheme]
        if not 0 < port < 2**16:
            raise WebhookNotAllowed("the webhook's port must be 1 to 65535")
        try:
            host = canonical_host(match["host"])
        except ValueError as error:
            raise WebhookNotAllowed(f"the webhook's host is not valid: {error}") from None
        target = match["target"] or "/"
        return cls(scheme, host, port, target if target.startswith("/") else f"/{target}")

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def literal(self) -> Address | None:
        """The address, when the host is one."""
        try:
            return ip_address(self.host)
        except ValueError:
            return None


class WebhookHosts:
    """The hosts an operator lets webhooks go to; see the module's rules."""

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        """Raises ValueError when a pattern is not valid."""
        self._any: set[str] = set()
        self._domains: dict[str, set[str]] = {}
        self._exact: dict[str, set[str]] = {}
        for pattern in patterns:
            host, port = _host_and_port(pattern.strip())
            if host == "*":
                self._any.add(port)
            elif host.startswith("*."):
                self._domains.setdefault(f".{_name(host[2:])}", set()).add(port)
            else:
                self._exact.setdefault(canonical_host(host), set()).add(port)

    @property
    def is_off(self) -> bool:
        """Whether no webhook may go anywhere."""
        return not (self._any or self._domains or self._exact)

    def admit(self, text: str) -> WebhookUrl:
        """The URL in its parts, if its text allows a webhook to it. Raises WebhookNotAllowed."""
        if self.is_off:
            raise WebhookNotAllowed(
                "webhooks are off here: the operator lists their hosts in BROADCASTER_WEBHOOK_HOSTS"
            )
        url = WebhookUrl.parse(text)
        ports = self._ports(url.host)
        if not ports:
            raise WebhookNotAllowed("this host is not listed in BROADCASTER_WEBHOOK_HOSTS")
        if url.scheme == "http" and not _is_this_machine(url):
            raise WebhookNotAllowed("a webhook needs https; http is for this machine alone")
        if not _lists_port(ports, url):
            raise WebhookNotAllowed(
                f"port {url.port} of this host is not listed in BROADCASTER_WEBHOOK_HOSTS: an entry without a "
                "port means 443, and 80 for http; the operator may list HOST:PORT"
            )
        literal = url.literal
        if literal is not None and not self.may_reach(url, literal):
            raise WebhookNotAllowed("the address is not public; the operator may list it exactly")
        if url.host.rpartition(".")[2] == "localhost" and url.host not in self._exact:
            raise WebhookNotAllowed("localhost is not public; the operator may list it exactly")
        return url

    def may_reach(self, url: WebhookUrl, address: Address) -> bool:
        """Whether a connection for this URL may be made to ``address``, to which its host resolved."""
        if url.host not in self._exact:
            return url.scheme == "https" and is_public(address)
        inner = _inside(address)
        if url.scheme == "http":
            return inner.is_loopback
        return url.literal is not None or not (inner.is_link_local or inner.is_multicast or inner.is_unspecified)

    def _ports(self, host: str) -> set[str]:
        """The ports that are listed for this host; empty when it is not listed."""
        if host in self._exact:
            return self._exact[host]
        return self._any.union(*(ports for domain, ports in self._domains.items() if host.endswith(domain)))


def _host_and_port(pattern: str) -> tuple[str, str]:
    """A pattern in its parts. Raises ValueError when the port is not valid."""
    match = re.fullmatch(r"(\[[^\]]*\]|[^:]*):(\*|[0-9]{1,5})", pattern, re.ASCII)
    if match is None:
        return pattern, _DEFAULT_PORT
    if match[2] != _ANY_PORT and not 0 < int(match[2]) < 2**16:
        raise ValueError("the port of a host must be 1 to 65535, or *")
    return match[1], match[2] if match[2] == _ANY_PORT else str(int(match[2]))


def _lists_port(ports: set[str], url: WebhookUrl) -> bool:
    return _ANY_PORT in ports or str(url.port) in ports or (_DEFAULT_PORT in ports and url.port == _PORTS[url.scheme])


def canonical_host(text: str) -> str:
    """One spelling for each host: lower case, no trailing dot, no brackets. Raises ValueError when it is not valid."""
    bare = text.removeprefix("[").removesuffix("]")
    if ":" in bare:
        return str(IPv6Address(bare))
    return _name(bare)


def is_public(address: Address) -> bool:
    """Whether the address is one of the Internet: not of a machine, a network, a documentation or a special purpose."""
    inner = _inside(address)
    if isinstance(inner, IPv6Address) and inner.is_site_local:
        return False
    is_special = any(inner in network for network in _SPECIAL if network.version == inner.version)
    return inner.is_global and not (inner.is_multicast or inner.is_reserved or is_special)


def _name(text: str) -> str:
    name = text.lower().removesuffix(".")
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return str(IPv4Address(name))
    if len(name) > _MAX_NAME_CHARS or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError("names are letters, digits, hyphens and dots")
    return name


def _is_this_machine(url: WebhookUrl) -> bool:
    literal = url.literal
    return url.host == "localhost" if literal is None else literal.is_loopback


def _inside(address: Address) -> Address:
    """The IPv4 address that an IPv6 address carries for a translator, or the address itself."""
    if isinstance(address, IPv4Address):
        return address
    carried = address.ipv4_mapped or address.sixtofour
    if carried is not None:
        return carried
    number = int(address)
    if number >> 32 == _NAT64 >> 32 or 1 < number < _COMPATIBLE_BELOW:
        return IPv4Address(number & 0xFFFF_FFFF)
    return address
