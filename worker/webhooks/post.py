"""One call of a webhook: a POST to a checked address, of whose response only the status and ``Retry-After`` are read.

Rules
1. The host is resolved here, each address is checked (webhooks/url.py), and the connection is made to a checked
   address itself: a name that resolves differently a moment later (DNS rebinding) has no effect. TLS still requires a
   certificate of the host's name.
2. No redirect is followed, no proxy of the environment is used, no connection is kept, no cookie is stored.
3. One deadline applies to the call until its response head has come: at most HEAD_BYTES, after at most INTERIM_HEADS
   interim ones (1xx).
4. Then at most POLITE_BYTES of the body are read, for at most POLITE_S, and dropped: the receiver can end its response.
   Its status counts even if it does not.

Theory of operation. An HTTP client reads interim responses for as long as they come and offers no bound for them, so
the response is read by hand.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Final, TypeAlias

import httpx2

from broadcaster.webhooks.url import Address, WebhookHosts, WebhookUrl
from worker.network.resolver import SystemResolver

CONNECT_TIMEOUT_S: Final = 3.0
ADDRESSES_TRIED: Final = 4
HEAD_BYTES: Final = 16 * 2**10
INTERIM_HEADS: Final = 16
POLITE_BYTES: Final = 1024
POLITE_S: Final = 0.25

_HEAD_END: Final = b"\r\n\r\n"
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: [^\r\n]*)?\r\n")
_RETRY_AFTER: Final = re.compile(rb"\r\nretry-after:[ \t]*([0-9]{1,9})[ \t]*\r\n", re.IGNORECASE)

Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host and port → the addresses of the host; raises OSError if it has none."""


class PostFailed(Exception):
    """No status came. ``fault`` is a stable code; ``is_final``: the same call would fail the same way."""

    def __init__(self, fault: str, *, is_final: bool = False) -> None:
        super().__init__(fault)
        self.fault = fault
        self.is_final = is_final


@dataclass(frozen=True, slots=True)
class WebhookResponse:
    """The receiver's status, and the pause that it requests. ``took_s``: how long its head took to come."""

    status: int
    retry_after_s: float
    took_s: float = field(default=0.0, compare=False)


class WebhookPoster:
    """See the module's rules. Its callers bound the concurrent calls."""

    def __init__(
        self,
        hosts: WebhookHosts,
        *,
        timeout_s: float,
        resolve: Resolve | None = None,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        self._hosts = hosts
        self._timeout_s = timeout_s
        self._resolve = resolve or SystemResolver().addresses
        self._tls = httpx2.create_ssl_context(verify=verify)
        self._tls.set_alpn_protocols(["http/1.1"])

    async def post(self, url: WebhookUrl, *, headers: Mapping[str, str], body: bytes) -> WebhookResponse:
        """Call it. Raises PostFailed: (1) ``timeout``; (2) ``unresolved``, the name has no address now; (3)
        ``address_refused``, it has none we may reach, which is final; (4) ``unreachable`` or ``tls``, no connection;
        (5) ``no_answer``: the connection broke, or what came was not HTTP.
        """
        request = _request(url, headers, body)
        begun_at = asyncio.get_running_loop().time()
        with contextlib.ExitStack() as stack:
            try:
                async with asyncio.timeout(self._timeout_s):
                    reader, writer = await self._connect(url, await self._addresses(url))
                    stack.callback(writer.transport.abort)
                    writer.write(request)
                    response = await _read_response(reader)
            except TimeoutError:
                raise PostFailed("timeout") from None
            except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                raise PostFailed("no_answer") from None
            took_s = asyncio.get_running_loop().time() - begun_at
            with contextlib.suppress(TimeoutError, OSError, asyncio.IncompleteReadError):
                async with asyncio.timeout(POLITE_S):
                    await reader.readexactly(POLITE_BYTES)
        return replace(response, took_s=took_s)

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

    async def _connect(
        self, url: WebhookUrl, addresses: Sequence[Address]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the first address that can be reached. Raises PostFailed if there is none."""
        tls, name = (self._tls, url.host) if url.scheme == "https" else (None, None)
        fault = "unreachable"
        for address in addresses:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    return await asyncio.open_connection(
                        str(address), url.port, ssl=tls, server_hostname=name, limit=HEAD_BYTES
                    )
            except ssl.SSLError:
                fault = "tls"
            except OSError:  # a TimeoutError is one
                fault = "unreachable"
        raise PostFailed(fault)


def _request(url: WebhookUrl, headers: Mapping[str, str], body: bytes) -> bytes:
    all_headers = {"host": url.authority, "connection": "close", **headers, "content-length": str(len(body))}
    lines = [f"POST {url.target} HTTP/1.1", *(f"{name}: {value}" for name, value in all_headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


async def _read_response(reader: asyncio.StreamReader) -> WebhookResponse:
    """Rule 3. Raises PostFailed (``no_answer``) if no valid response comes."""
    for _ in range(INTERIM_HEADS + 1):
        head = await reader.readuntil(_HEAD_END)
        status = _STATUS.match(head)
        if status is None:
            break
        if not status[1].startswith(b"1"):
            # RFC 9110, 10.2.3. A date is ignored: our own back-off is as good.
            retry_after = _RETRY_AFTER.search(head)
            return WebhookResponse(int(status[1]), float(retry_after[1]) if retry_after else 0.0)
    raise PostFailed("no_answer")
