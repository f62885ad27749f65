"""Where viewers read frames: stateless dialects share the chunks of segments, the others one transcript."""

from __future__ import annotations

import pytest

from broadcaster.dialects import DIALECTS, NATIVE_SNAPSHOT
from tests.hub.support import texts

STATELESS = [dialect for dialect in DIALECTS.values() if dialect.open("g").chunk_alone is not None]


def test_native_is_stateless_and_its_snapshots_are_not():
    assert [dialect.name for dialect in STATELESS] == ["native"]
    assert NATIVE_SNAPSHOT.open("g").chunk_alone is None


@pytest.mark.parametrize("dialect", STATELESS)
@pytest.mark.parametrize("at", range(1, 5))
def test_a_stateless_dialect_encodes_any_piece_of_a_stream_alone(dialect, at):
    entries = texts(5, 1, 5)
    whole = dialect.open("g").encode(entries)
    assert dialect.open("g").encode(entries[:at]) + dialect.open("g").encode(entries[at:]) == whole


@pytest.mark.parametrize("dialect", [*DIALECTS.values(), NATIVE_SNAPSHOT], ids=lambda dialect: dialect.name)
async def test_viewers_of_equal_dialects_read_one_source(hub, tail, dialect):
    tail.append("g", *texts(5, 1, 5))
    first, second = [await hub.join("g", cursor=None, timeout_s=5, dialect=dialect) for _ in range(2)]
    assert first._source is second._source
    assert first.resumes_anywhere == (dialect in STATELESS)
