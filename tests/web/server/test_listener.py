"""A port of several processes: theirs together, and of no others."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from contextlib import ExitStack

import pytest

from broadcaster.web.server.listener import SPREADS, open_listener, share

CONNECTIONS = 400


def test_a_port_is_taken_for_a_listener_that_does_not_share_it() -> None:
    with open_listener("127.0.0.1", 0) as kept:
        share(kept)
        host, port = kept.getsockname()
        with open_listener(host, port, is_shared=True) as first, open_listener(host, port, is_shared=True) as second:
            first.listen()
            second.listen()
            with pytest.raises(OSError, match="in use"):
                open_listener(host, port)


def test_a_port_that_one_process_has_alone_cannot_be_shared() -> None:
    with open_listener("127.0.0.1", 0) as alone:
        alone.listen()
        with pytest.raises(OSError, match="in use"):
            open_listener(*alone.getsockname(), is_shared=True)


async def test_a_socket_that_only_keeps_the_port_gets_no_connection() -> None:
    with open_listener("127.0.0.1", 0) as kept:
        share(kept)
        host, port = kept.getsockname()
        with open_listener(host, port, is_shared=True) as served:
            served.listen()
            for _ in range(20):
                _, writer = await asyncio.open_connection(host, port)
                writer.close()
                served.accept()[0].close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(host, port)


def test_a_body_does_not_wait_until_the_client_acknowledges_its_head() -> None:
    with open_listener("127.0.0.1", 0) as listener:
        listener.listen()
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_connections_spread_over_the_sockets_of_one_port() -> None:
    if not SPREADS:
        return  # where they do not, processes listen with one socket
    with ExitStack() as stack:
        kept = stack.enter_context(open_listener("127.0.0.1", 0))
        share(kept)
        host, port = kept.getsockname()
        listeners = [stack.enter_context(open_listener(host, port, is_shared=True)) for _ in range(2)]
        for each in listeners:
            each.listen(CONNECTIONS)
        for _ in range(CONNECTIONS):
            stack.enter_context(socket.create_connection((host, port)))
        got = Counter[socket.socket]()
        for each in listeners:
            while True:
                try:
                    stack.enter_context(each.accept()[0])
                except BlockingIOError:
                    break
                got[each] += 1
    assert sum(got.values()) == CONNECTIONS
    assert min(got.values()) >= CONNECTIONS / 4
