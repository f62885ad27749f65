"""The channel between the parent and a front-end process: messages in both directions, and the end of either side."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from broadcaster.cli.processes.parent_channel import ALIVE, DRAIN, END, SERVING, ChildEnd, read_failure
from broadcaster.cli.terminal.exit_codes import CommandFailed, ExitCode


@pytest.fixture
def pair() -> Iterator[tuple[ChildEnd, socket.socket]]:
    """The child's end and the parent's."""
    ours, theirs = socket.socketpair()
    with ours, closing(ChildEnd(theirs.detach())) as child:
        yield child, ours


async def messages(child: ChildEnd) -> list[str]:
    """All messages that a child reads until its parent is gone."""
    async with asyncio.timeout(20):
        return [message async for message in child.messages()]


async def test_a_child_reads_its_parents_messages_until_it_is_gone(pair: tuple[ChildEnd, socket.socket]) -> None:
    child, parent = pair
    assert child.is_wanted
    parent.sendall(f"{DRAIN}\n{END}\n".encode())
    parent.close()
    assert await messages(child) == [DRAIN, END]
    assert not child.is_wanted
    child.send(ALIVE)  # the parent is gone


async def test_a_parent_that_is_gone_without_having_read_is_gone_all_the_same(
    pair: tuple[ChildEnd, socket.socket],
) -> None:
    child, parent = pair
    child.send(SERVING)
    parent.close()
    assert await messages(child) == []


def test_a_parent_that_reads_nothing_does_not_block_a_child(pair: tuple[ChildEnd, socket.socket]) -> None:
    child, parent = pair
    for _ in range(100_000):
        child.send(ALIVE)
    assert len(parent.recv(2**24)) < 100_000


def test_a_failure_arrives_as_it_was_sent_in_one_line(pair: tuple[ChildEnd, socket.socket]) -> None:
    child, parent = pair
    child.send_failure(CommandFailed("the first line\n  and the second", ExitCode.USAGE))
    line = parent.recv(4096).decode()
    assert line.endswith("\n")
    failure = read_failure(line.rstrip("\n"))
    assert failure is not None
    assert (str(failure), failure.code) == ("the first line and the second", ExitCode.USAGE)
    assert read_failure(ALIVE) is None
