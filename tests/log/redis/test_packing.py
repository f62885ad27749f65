"""Commands are packed by hiredis, into the bytes that redis-py would have sent."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio.connection import Connection
from redis.exceptions import DataError

from broadcaster.log.redis.connection_types import CONNECTION_TYPES

NAMES = st.sampled_from(["GET", "EVALSHA", "CONFIG GET", "XINFO STREAM", b"PING", b"CONFIG GET"])
ARGUMENTS = st.one_of(
    st.binary(max_size=20_000),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.integers(),
    st.floats(allow_nan=False),
    st.binary(max_size=100).map(bytearray),
    st.binary(max_size=100).map(lambda value: memoryview(value)),
)
COMMANDS = st.lists(st.tuples(NAMES, st.lists(ARGUMENTS, max_size=20)), max_size=5)


def ours() -> Connection:
    return CONNECTION_TYPES[Connection]()  # type: ignore[return-value]


@given(COMMANDS)
def test_commands_are_the_bytes_that_redis_py_sends(commands: list[tuple[str, list[object]]]) -> None:
    whole = [(name, *arguments) for name, arguments in commands]
    theirs = Connection()
    assert b"".join(ours().pack_commands(whole)) == b"".join(theirs.pack_commands(whole))  # type: ignore[arg-type]
    for command in whole:
        assert b"".join(ours().pack_command(*command)) == b"".join(theirs.pack_command(*command))  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [None, True, [b"x"]])
def test_a_value_that_is_not_an_argument_is_refused_by_its_types_name(value: Any) -> None:
    with pytest.raises(DataError, match=type(value).__name__):
        ours().pack_command("SET", "key", value)
