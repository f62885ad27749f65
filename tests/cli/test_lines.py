"""The line between the parent and a front-end process: what each hears when the other speaks, or is gone."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from broadcaster.cli.failures import CommandFailed, ExitCode
from broadcaster.cli.lines import ALIVE, DRAIN, END, SERVING, ChildEnd, read_failure


@pytest.fixture
def pair() -> Iterator[tuple[ChildEnd, socket.socket]]:
    """The child's end and the parent's."""
    ours, theirs = socket.socketpair()
    with ours, closing(ChildEnd(theirs.detach())) as child:
        yield child, ours


async def heard(child: ChildEnd) -> list[str]:
    """All that a child hears until its parent is gone."""
    async with asyncio.timeout(10):
        return [word async for word in child.heard()]


async def test_a_child_hears_its_parent_until_it_is_gone(pair: tuple[ChildEnd, socket.socket]) -> None:
    child, parent = pair
    assert child.is_wanted
    parent.sendall(f"{DRAIN}\n{END}\n".encode())
    parent.close()
    assert await heard(child) == [DRAIN, END]
    assert not child.is_wanted
    child.say(ALIVE)  # to nobody


async def test_a_parent_that_is_gone_without_having_read_is_gone_all_the_same(
    pair: tuple[ChildEnd, socket.socket],
) -> None:
    child, parent = pair
    child.say(SERVING)
    parent.close()
    assert await heard(child) == []


def test_a_parent_that_reads_nothing_holds_nobody_up(pair: tuple[ChildEnd, socket.socket]) -> None:
    child, parent = pair
    for _ in range(100_000):
        child.say(ALIVE)
    assert len(parent.recv(2**24)) < 100_000


def test_a_failure_comes_as_it_was_told_in_one_line(pair: tuple[ChildEnd, socket.socket]) -> None:
    child, parent = pair
    child.say_failed(CommandFailed("the first line\n  and the second", ExitCode.USAGE))
    line = parent.recv(4096).decode()
    assert line.endswith("\n")
    failure = read_failure(line.rstrip("\n"))
    assert failure is not None
    assert (str(failure), failure.code) == ("the first line and the second", ExitCode.USAGE)
    assert read_failure(ALIVE) is None
