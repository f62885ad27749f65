"""The publisher's appends are the product's: the log takes each, in order, under the epoch that was granted."""

from __future__ import annotations

import asyncio
import json
import subprocess
import uuid
from pathlib import Path

import pytest

from bench import streams
from bench.programs import build
from broadcaster.core.entry import Entry
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.reader import Meta, Streams
from tests.bench.answering import needs_a_compiler


@pytest.mark.parametrize("batch", [1, 4])
def test_published_events_are_in_the_log_as_a_workers_appends_would_be(
    redis_url: str, tmp_path: Path, batch: int
) -> None:
    needs_a_compiler()
    file = tmp_path / "commands"
    run = f"run-{uuid.uuid4().hex}"
    streams.prepare(redis_url, run=run, streams=2, file=file)
    arguments: list[str | Path] = [
        "--redis",
        file,
        "--socket",
        redis_url.removeprefix("unix://"),
        "--batch",
        str(batch),
    ]
    result = subprocess.run(
        [build(tmp_path).publish, *arguments, "--streams", "2", "--rate", "0", "--count", "40", "--size", "200"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert {name: json.loads(result.stdout)[name] for name in ("sent", "refused")} == {"sent": 40, "refused": 0}
    for number in range(2):
        meta, entries = asyncio.run(read(redis_url, f"{run}-{number}"))
        assert (meta.status, {entry.epoch for entry in entries}) == ("running", {meta.epoch})
        assert [entry.seq for entry in entries] == list(range(1, 21))
        events = [json.loads(entry.event) for entry in entries]
        assert [event["delta"].split()[0] for event in events] == [f"#n={seq}" for seq in range(1, 21)]
        assert {event["type"] for event in events} == {"text-delta"}
        assert {len(entry.event) for entry in entries} == {200}


async def read(url: str, stream_id: str) -> tuple[Meta, list[Entry]]:
    async with LogConnection(url) as connection:
        held = Streams(connection)
        meta = await held.meta(stream_id)
        assert meta is not None
        return meta, list(await held.read(stream_id))


def test_an_append_that_the_log_refuses_is_counted(redis_url: str, tmp_path: Path) -> None:
    needs_a_compiler()
    file = tmp_path / "commands"
    streams.prepare(redis_url, run=f"run-{uuid.uuid4().hex}", streams=1, file=file)
    program = build(tmp_path).publish
    arguments: list[str | Path] = [
        "--redis",
        file,
        "--socket",
        redis_url.removeprefix("unix://"),
        "--rate",
        "0",
        "--count",
        "3",
    ]
    subprocess.run([program, *arguments], capture_output=True, check=True)
    # Its numbers restart at 1: the log has them.
    second = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert (second.returncode, json.loads(second.stdout)["refused"]) == (1, 3)
