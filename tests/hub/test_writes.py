"""Chunks to many sockets, in C and in Python: both do the same."""

from __future__ import annotations

import contextlib
import os
import socket
from array import array
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.hub.live import writes
from broadcaster.hub.live.writes import REFUSED, Write, WriteBatch, write_batch_in_python
from tests.support.servers.programs import lacking

NOT_COMPILED = "no C compiler was here when the package was installed: get one, then `make compiled`"

CHUNK = b"5\r\nhello\r\n"

LOOPS = pytest.mark.parametrize("write_batch", [writes.write_batch, write_batch_in_python], ids=["chosen", "in-python"])


@contextlib.contextmanager
def pairs(count: int) -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    """Non-blocking sockets, and what is at their other ends."""
    opened = [socket.socketpair() for _ in range(count)]
    for ours, theirs in opened:
        ours.setblocking(False)
        theirs.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    try:
        yield opened
    finally:
        for pair in opened:
            for end in pair:
                end.close()


def fds_of(opened: list[tuple[socket.socket, socket.socket]]) -> array[int]:
    return array("i", [ours.fileno() for ours, _ in opened])


def fill(ours: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            ours.send(b"x" * 1024)


def test_the_loop_in_c_is_built_where_there_is_a_compiler() -> None:
    if not writes.IS_COMPILED:
        lacking(NOT_COMPILED)
    assert writes.write_batch is not write_batch_in_python


@LOOPS
def test_every_socket_gets_its_whole_chunk(write_batch: WriteBatch) -> None:
    with pairs(100) as opened:
        assert write_batch([(fds_of(opened[:60]), CHUNK), (fds_of(opened[60:]), CHUNK * 2)]) == []
        assert [theirs.recv(100) for _, theirs in opened] == [CHUNK] * 60 + [CHUNK * 2] * 40


@LOOPS
def test_nothing_is_written_without_sockets(write_batch: WriteBatch) -> None:
    assert write_batch([(array("i"), CHUNK)]) == []
    assert write_batch([]) == []


@LOOPS
def test_sockets_that_take_a_part_or_nothing_are_returned_and_all_others_get_it(write_batch: WriteBatch) -> None:
    chunk = b"x" * 2**20
    with pairs(5) as opened:
        full, part, gone, closed, _ = (ours for ours, _ in opened)
        fill(full)
        opened[2][1].close()
        closed.shutdown(socket.SHUT_WR)
        last = fds_of(opened[4:])
        results = {fd: taken for _, fd, taken in write_batch([(fds_of(opened[:4]), chunk)])}
        assert results[full.fileno()] == 0
        assert 0 < results[part.fileno()] < len(chunk)
        assert (results[gone.fileno()], results[closed.fileno()]) == (REFUSED, REFUSED)
        assert write_batch([(fds_of(opened[:2]), CHUNK), (fds_of(opened[2:4]) + last, CHUNK)]) == [
            (0, full.fileno(), 0),
            (0, part.fileno(), 0),
            (1, gone.fileno(), REFUSED),
            (1, closed.fileno(), REFUSED),
        ]
        assert opened[4][1].recv(100) == CHUNK
        taken = results[part.fileno()]
        received = bytearray()
        with contextlib.suppress(BlockingIOError):
            while True:
                received += opened[1][1].recv(2**16)
        assert len(received) == taken


@LOOPS
def test_a_number_that_is_no_open_file_is_refused(write_batch: WriteBatch) -> None:
    with pairs(1) as opened:
        fds = fds_of(opened)
        closed = socket.socket()
        fd = closed.detach()
        os.close(fd)
        assert write_batch([(array("i", [fd]) + fds, CHUNK)]) == [(0, fd, REFUSED)]


@LOOPS
def test_a_pipe_is_written_to_as_a_socket_is(write_batch: WriteBatch) -> None:
    reading, writing = os.pipe()
    try:
        os.set_blocking(writing, False)
        assert write_batch([(array("i", [writing]), CHUNK)]) == []
        assert os.read(reading, 100) == CHUNK
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("odd", [(), (array("i"),), (3, CHUNK), (array("i"), 7), (array("i"), "text"), CHUNK, None])
def test_a_batch_with_anything_but_numbers_and_bytes_is_refused_by_the_loop_in_c_before_it_writes(odd: object) -> None:
    if not writes.IS_COMPILED:
        lacking(NOT_COMPILED)
    with pairs(1) as opened:
        for batch in ([(fds_of(opened), CHUNK), odd], odd, ((fds_of(opened), CHUNK),)):
            with pytest.raises(TypeError):
                writes.write_batch(batch)  # type: ignore[arg-type]
        with pytest.raises(BlockingIOError):
            opened[0][1].recv(100)


def test_the_numbers_of_a_batch_that_was_written_can_be_changed() -> None:
    with pairs(1) as opened:
        fds = fds_of(opened)
        writes.write_batch([(fds, CHUNK)])
        fds.append(3)  # BufferError while anything holds its memory


@given(sizes=st.lists(st.integers(0, 300_000), min_size=1, max_size=6), size=st.integers(1, 300_000))
def test_both_loops_return_the_same_for_the_same_sockets(sizes: list[int], size: int) -> None:
    """Sockets that hold back more and more: the results for each loop are the same."""

    def run(write_batch: WriteBatch) -> list[list[tuple[int, int, int]]]:
        with pairs(len(sizes)) as opened:
            for (ours, _), held in zip(opened, sizes, strict=True):
                with contextlib.suppress(BlockingIOError):
                    ours.send(bytes(held))
            fds = fds_of(opened)
            places = {fd: at for at, fd in enumerate(fds)}
            batch: list[Write] = [(fds[:2], bytes(size)), (fds[2:], bytes(2 * size))]
            return [[(place, places[fd], taken) for place, fd, taken in write_batch(batch)] for _ in range(3)]

    assert run(writes.write_batch) == run(write_batch_in_python)
