"""Blocks of SSE, taken apart strictly: what some client dies of is refused (dialects/writing.py)."""

from __future__ import annotations

from typing import NamedTuple


class Block(NamedTuple):
    """One block that has data."""

    data: str
    event: str | None = None
    id: str | None = None


def blocks_of(raw: bytes) -> list[Block]:
    """The blocks of a response: LF only, whole, each with one line of data that is not empty."""
    assert b"\r" not in raw
    if not raw:
        return []
    assert raw.endswith(b"\n\n")
    return [_block(each) for each in raw[:-2].split(b"\n\n")]


def _block(raw: bytes) -> Block:
    fields: dict[str, str] = {}
    for line in raw.decode().split("\n"):
        name, separator, value = line.partition(": ")
        assert separator, line
        assert name in ("event", "id", "data"), line
        assert name not in fields, line
        fields[name] = value
    assert fields.get("data"), raw
    return Block(fields["data"], fields.get("event"), fields.get("id"))
