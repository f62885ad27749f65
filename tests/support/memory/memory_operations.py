"""What an operator sees, in memory: a world without workers, queue and dead letters."""

from __future__ import annotations

from broadcaster.errors import UnknownStream
from broadcaster.log.inspection.operations import SteadyState
from broadcaster.log.inspection.queue_state import QueueState
from broadcaster.log.inspection.redis_facts import info_facts
from broadcaster.log.inspection.server_state import ServerState, ServerStates
from broadcaster.log.inspection.worker_reports import WorkerPage
from broadcaster.log.jobs.dead_letters import DeadLetter, DeadLetterPage
from broadcaster.log.jobs.generations import Created
from broadcaster.log.redis.url import RedisKind
from broadcaster.log.streams.reader import Meta


class MemoryOperations:
    """The OperationsPort over these generations."""

    def __init__(self, metas: dict[str, Meta] | None = None) -> None:
        self.metas = {} if metas is None else metas

    async def workers(self, *, limit: int, after: str) -> WorkerPage:
        return WorkerPage([], 0, 0, None, 0)

    async def queue(self, *, limit: int, after: str | None) -> QueueState:
        return QueueState(0, 0, 0, 0, 0, 0, [], None)

    async def servers(self) -> ServerStates:
        return ServerStates(RedisKind.SINGLE, 1, [ServerState("", 1.0, info_facts({}))], None)

    def steadiness(self) -> SteadyState:
        return SteadyState(True, 0, None)

    async def dead_letters(self, *, limit: int, before: str | None) -> DeadLetterPage:
        return DeadLetterPage([], None)

    async def requeue(self, letter_id: str) -> tuple[DeadLetter, Created]:
        raise UnknownStream("no dead letter has this id")

    async def generation(self, generation_id: str) -> Meta:
        if generation_id not in self.metas:
            raise UnknownStream("no generation has this id (or it has expired)")
        return self.metas[generation_id]
