"""Dead letters: generations that failed on every attempt, kept for an operator to inspect and to requeue.

Rules
1. A letter is one entry ``id, reason`` of the dead stream (written by settle.lua, 10 000 at most, the oldest go first).
   The meta records the death together with the end. So if its worker dies before it writes the letter, the next
   process that comes upon the generation (a delivery of its job, the sweep) writes it. A generation gets one letter:
   the call that takes it out of the open index writes it, and a generation that is over does not enter the index. Only
   a sweep that read it before may put it there once more; settle.lua then finds it among the newest hundred letters.
2. The log of such a generation is closed by its ``error``, and nothing can be appended. A requeue therefore starts a
   NEW generation with the same request, tenant and policies, read from the meta while that exists.
3. One requeue starts one generation, however often and by however many callers it is repeated: the generation is
   created under the Idempotency-Key ``dead:<generation>``, and only then the letter is removed. If the caller dies in
   between, the letter stays, and the next requeue gets the same new generation (while the key is remembered).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from broadcaster.errors import UnknownStream
from broadcaster.log.jobs.generations import Created, GenerationRequest, Generations
from broadcaster.log.redis.connect import LogConnection, reply_to
from broadcaster.log.streams.reader import Streams

PAGE: Final = 500

_Row: TypeAlias = tuple[bytes, dict[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead generation. ``model`` is None and ``can_requeue`` False when its meta has expired.

    ``entry_ids`` are its letters: one, or more if earlier versions wrote them.
    """

    generation_id: str
    entry_ids: tuple[str, ...]
    reason: str
    at_ms: int
    model: str | None
    can_requeue: bool


class DeadLetterPage(NamedTuple):
    """Letters, each by its own entry id; ``next_before`` is where the next page begins (None: this was the last)."""

    letters: Sequence[DeadLetter]
    next_before: str | None


class DeadLetters:
    """Every method raises LogUnavailable while Redis cannot answer."""

    def __init__(self, connection: LogConnection, *, streams: Streams, generations: Generations) -> None:
        self._connection = connection
        self._redis = connection.redis
        self._keys = connection.keys
        self._streams = streams
        self._generations = generations

    async def newest(self, limit: int) -> list[DeadLetter]:
        """The generations of the newest ``limit`` letters, the newest first."""
        rows: list[_Row] = []
        before = "+"
        while len(rows) < limit:
            count = min(PAGE, limit - len(rows))
            page = await reply_to(self._redis.xrevrange(self._keys.dead, max=before, count=count))
            if not page:
                break
            rows += page
            before = f"({page[-1][0].decode()}"
        by_id: dict[str, list[_Row]] = {}
        for row in rows:
            by_id.setdefault(row[1][b"id"].decode(), []).append(row)
        letters: list[DeadLetter] = []
        ids = list(by_id)
        for at in range(0, len(ids), PAGE):
            page_ids = ids[at : at + PAGE]
            requests = await self._requests(page_ids)
            letters += [
                _letter(each, by_id[each], requested) for each, requested in zip(page_ids, requests, strict=True)
            ]
        return letters

    async def page(self, *, limit: int, before: str | None) -> DeadLetterPage:
        """Up to ``limit`` letters, the newest first, of those before a letter (None: from the newest)."""
        newest = "+" if before is None else f"({before}"
        rows: list[_Row] = await reply_to(self._redis.xrevrange(self._keys.dead, max=newest, count=limit + 1))
        shown = rows[:limit]
        requests = await self._requests([row[1][b"id"].decode() for row in shown])
        letters = [
            _letter(row[1][b"id"].decode(), [row], requested) for row, requested in zip(shown, requests, strict=True)
        ]
        return DeadLetterPage(letters, letters[-1].entry_ids[0] if len(rows) > limit else None)

    async def letter(self, entry_id: str) -> DeadLetter:
        """The letter with this id. Raises UnknownStream: it was requeued, or its place was needed."""
        rows: list[_Row] = await reply_to(self._redis.xrange(self._keys.dead, min=entry_id, max=entry_id))
        if not rows:
            raise UnknownStream("no dead letter has this id: it was requeued, or newer letters have taken its place")
        generation_id = rows[0][1][b"id"].decode()
        (requested,) = await self._requests([generation_id])
        return _letter(generation_id, rows, requested)

    async def requeue(self, letter: DeadLetter) -> Created:
        """Start its generation as a new one; ``created`` is False when an earlier requeue had started it.

        The letter stays when this raises (1) UnknownStream: its request has expired; (2) QueueFull, TenantLimit, Busy;
        (3) IdempotencyMismatch: its tenant has used the key of rule 3 for something else; (4) MetadataTooLarge,
        BodyTooLarge, WebhookNotAllowed: the settings no longer allow its request.
        """
        meta = await self._streams.meta(letter.generation_id)
        if meta is None or not (meta.model and meta.request):
            raise UnknownStream(f"the request of {letter.generation_id} has expired")
        created = await self._generations.create(
            GenerationRequest.from_meta(meta), tenant=meta.tenant, idempotency_key=f"dead:{letter.generation_id}"
        )
        await reply_to(self._redis.xdel(self._keys.dead, *letter.entry_ids))
        return created

    async def _requests(self, generation_ids: Sequence[str]) -> list[str | None]:
        """The requested model of each, None if the request is gone. The requests themselves may be megabytes."""
        pipeline = self._connection.pipeline()
        for generation_id in generation_ids:
            pipeline.hget(self._keys.meta(generation_id), "model")
            pipeline.hstrlen(self._keys.meta(generation_id), "request")
        replies = await reply_to(pipeline.execute()) if generation_ids else []
        return [
            model.decode() if model and length else None
            for model, length in zip(replies[0::2], replies[1::2], strict=True)
        ]


def _letter(generation_id: str, rows: Sequence[_Row], model: str | None) -> DeadLetter:
    newest_id, fields = rows[0]
    return DeadLetter(
        generation_id=generation_id,
        entry_ids=tuple(entry_id.decode() for entry_id, _ in rows),
        reason=fields.get(b"reason", b"").decode(),
        at_ms=int(newest_id.partition(b"-")[0]),
        model=model,
        can_requeue=model is not None,
    )
