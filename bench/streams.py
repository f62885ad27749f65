"""Generations that a bench may write to: created and claimed by the product's own classes, appended to by ``publish``.

The append is the product's script for every batch but the first and the last, with the arguments that a worker gives it
(log/streams/appender.py). What changes from call to call, ``{seq}``, ``{bytes}`` and ``{event}``, is filled in by the
publisher, which is C and therefore no part of what is measured.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broadcaster.core.events import FORMAT_VERSION
from broadcaster.core.requests.stream_ids import LOCAL_TENANT
from broadcaster.log.jobs.claims import ClaimPolicy, Claims, Outcome
from broadcaster.log.jobs.generations import GenerationLives, GenerationRequest, Generations
from broadcaster.log.jobs.queue import Queue
from broadcaster.log.jobs.queue_limits import QueueLimits
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.keys import KeyNames
from broadcaster.log.redis.scripts import SCRIPTS
from broadcaster.log.redis.steadiness import Steadiness
from broadcaster.log.streams.reader import Streams
from broadcaster.settings import Settings

_HOUR_S: Final = 3600.0
_HOUR_MS: Final = 3_600_000
_AT_ONCE: Final = 64


@dataclass(frozen=True, slots=True)
class Granted:
    """A generation and the epoch under which it may be written."""

    stream_id: str
    epoch: int


def prepare(url: str, *, run: str, streams: int, file: Path) -> None:
    """Create ``<run>-0`` … and write the publisher's file: one append for each, its words parted by tabs."""
    granted = asyncio.run(_create(url, [f"{run}-{number}" for number in range(streams)]))
    file.write_text("".join(f"{_append_of(each)}\n" for each in granted), "utf-8")


async def _create(url: str, ids: Sequence[str]) -> list[Granted]:
    async with LogConnection(url, max_connections=_AT_ONCE) as connection:
        for primary in (await connection.primaries()).values():
            await primary.script_load(SCRIPTS["append_next"].text)
        claims = Claims(connection, ClaimPolicy(_HOUR_S, _HOUR_S, _HOUR_S, 3), owner="bench")
        generations = open_generations(connection, claims=claims, ids=iter(ids))
        places = asyncio.Semaphore(_AT_ONCE)

        async def create_one() -> Granted:
            async with places:
                stream_id = await create_generation(generations, model="bench")
                claim = await claims.claim(stream_id, may_take_over=True)
            if claim.outcome is not Outcome.GRANTED:
                raise RuntimeError(f"{stream_id}: {claim.outcome.name}")
            return Granted(stream_id, claim.epoch)

        granted = {each.stream_id: each for each in await asyncio.gather(*(create_one() for _ in ids))}
        # They are claimed already: a worker of this run need not look at their jobs.
        await connection.redis.xtrim(connection.keys.ready, maxlen=0, approximate=False)
        await connection.redis.delete(connection.keys.waiting, connection.keys.turns)
        return [granted[stream_id] for stream_id in ids]


def open_generations(connection: LogConnection, *, claims: Claims, ids: Iterator[str]) -> Generations:
    """The product's own way to create generations, which here get these ids."""
    return Generations(
        connection,
        GenerationLives(open_ms=_HOUR_MS, live_ttl_ms=_HOUR_MS, retention_ms=_HOUR_MS, idempotency_ttl_ms=_HOUR_MS),
        queue=Queue(connection, consumer="bench", limits=QueueLimits(10**6)),
        claims=claims,
        streams=Streams(connection),
        steadiness=Steadiness(connection, lease_ttl_s=_HOUR_S),
        create_id=lambda: next(ids),
    )


async def create_generation(generations: Generations, *, model: str) -> str:
    """Ask for an answer of this model; the generation's id."""
    request = GenerationRequest(
        model=model, request={"messages": [{"role": "user", "content": "go"}], "max_tokens": 64}
    )
    return (await generations.create(request, tenant=LOCAL_TENANT)).id


def _append_of(granted: Granted) -> str:
    # With the defaults, whatever this machine's environment says.
    keys, stream_id = KeyNames(Settings.model_construct().key_prefix), granted.stream_id
    words: tuple[object, ...] = (
        "EVALSHA",
        SCRIPTS["append_next"].sha,
        3,
        keys.log(stream_id),
        keys.meta(stream_id),
        keys.live(stream_id),
        granted.epoch,
        "{seq}",
        "{bytes}",
        FORMAT_VERSION,
        "{event}",
    )
    return "\t".join(map(str, words))
