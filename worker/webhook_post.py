"""One call of a webhook: a POST to a checked address, whose answer is a status and nothing more.

Rules
1. The host is resolved here, each address is checked (core/webhook_url.py), and the connection is made to a checked
   address itself: a name that answers otherwise the next moment (DNS rebinding) changes nothing. TLS still asks for a
   certificate of the host's name.
2. No redirect is followed, no proxy of the environment is used, nothing is kept open, no cookie is remembered.
3. One deadline for all of it. Of the answer's body at most POLITE_BYTES are read, so that the receiver can end its
   response, and dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, TypeAlias

import httpx2

from broadcaster.core.webhook_url import Address, WebhookHosts, WebhookUrl

CONNECT_TIMEOUT_S: Final = 3.0
ADDRESSES_TRIED: Final = 4
POLITE_BYTES: Final = 1024
POLITE_S: Final = 0.25

Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host and port → the addresses of the host; raises OSError when it has none."""


class PostFailed(Exception):
    """No status came. ``fault`` is a stable code; ``is_final`` says that the same call would end the same way."""

    def __init__(self, fault: str, *, is_final: bool = False) -> None:
        super().__init__(fault)
        self.fault = fault
        self.is_final = is_final


@dataclass(frozen=True, slots=True)
class Answer:
    """What the receiver said, and for how long it asked to be left alone."""

    status: int
    retry_after_s: float


async def resolve_by_system(host: str, port: int) -> Sequence[str]:
    """The system's resolver: /etc/hosts, DNS and whatever else it is set up for."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class WebhookPoster:
    """See the module's rules. Belongs to one event loop; close it in that loop."""

    def __init__(
        self,
        hosts: WebhookHosts,
        *,
        timeout_s: float,
        max_connections: int,
        resolve: Resolve = resolve_by_system,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        self._hosts = hosts
        self._timeout_s = timeout_s
        self._resolve = resolve
        # A transport and not a client: that one follows redirects, keeps cookies and logs whole URLs.
        limits = httpx2.Limits(max_connections=max_connections, max_keepalive_connections=0)
        self._transport = httpx2.AsyncHTTPTransport(verify=verify, limits=limits)

    async def post(self, url: WebhookUrl, *, headers: Mapping[str, str], body: bytes) -> Answer:
        """Call it. Raises PostFailed: (1) ``timeout``; (2) ``unresolved``, the name has no address now; (3)
        ``address_refused``, it has none we may reach, which is final; (4) ``unreachable`` or ``tls``, no connection;
        (5) ``no_answer``: the connection broke, or what came was not HTTP.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                addresses = await self._addresses(url)
                for address in addresses[:-1]:
                    with contextlib.suppress(httpx2.ConnectError, httpx2.ConnectTimeout):
                        return await self._post_to(address, url, headers=headers, body=body)
                return await self._post_to(addresses[-1], url, headers=headers, body=body)
        except TimeoutError:
            raise PostFailed("timeout") from None
        except httpx2.TransportError as error:
            raise PostFailed(_fault_of(error)) from None

    async def aclose(self) -> None:
        """Close what is open."""
        await self._transport.aclose()

    async def _addresses(self, url: WebhookUrl) -> Sequence[Address]:
        """The checked addresses, at least one."""
        literal = url.literal
        if literal is not None:
            found: Sequence[Address] = [literal]
        else:
            try:
                found = [ip_address(each) for each in dict.fromkeys(await self._resolve(url.host, url.port))]
            except OSError:
                raise PostFailed("unresolved") from None
        checked = [each for each in found if self._hosts.may_reach(url, each)]
        if not checked:
            raise PostFailed("address_refused", is_final=True)
        return checked[:ADDRESSES_TRIED]

    async def _post_to(self, address: Address, url: WebhookUrl, *, headers: Mapping[str, str], body: bytes) -> Answer:
        request = httpx2.Request(
            "POST",
            httpx2.URL(scheme=url.scheme, host=str(address), port=url.port),
            headers={"host": url.authority, "connection": "close", **headers},
            content=body,
            extensions={
                "sni_hostname": url.host,
                "target": url.target.encode(),
                "timeout": {"connect": CONNECT_TIMEOUT_S},
            },
        )
        response = await self._transport.handle_async_request(request)
        try:
            with contextlib.suppress(TimeoutError, httpx2.TransportError):
                async with asyncio.timeout(POLITE_S):
                    await _read_politely(response)
        finally:
            await response.aclose()
        return Answer(response.status_code, _retry_after_s(response.headers))


async def _read_politely(response: httpx2.Response) -> None:
    read = 0
    async for chunk in response.aiter_raw():
        read += len(chunk)
        if read >= POLITE_BYTES:
            return


def _retry_after_s(headers: Mapping[str, str]) -> float:
    """The seconds of ``Retry-After`` (RFC 9110, 10.2.3); a date counts as none: our own back-off is as good."""
    told = headers.get("retry-after", "")
    return float(told) if told.isascii() and told.isdecimal() else 0.0


def _fault_of(error: httpx2.TransportError) -> str:
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        return "tls" if any(isinstance(each, ssl.SSLError) for each in _chain(error)) else "unreachable"
    if isinstance(error, httpx2.TimeoutException):
        return "timeout"
    return "no_answer"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__  # httpcore2 raises in the place of what it maps, without a cause
