"""What may wait in the queue, and what of it one tenant may have.

A tenant's bound that is not set is nine tenths of the queue, so that the last tenth stays free for others. The tenant
of a server without keys is alone: for it the bound of the queue is the only one.
"""

from __future__ import annotations

from dataclasses import dataclass

from broadcaster.core.requests.priorities import Priority
from broadcaster.core.requests.stream_ids import LOCAL_TENANT


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """Most waiting generations: of all (MAX_QUEUE), and of one tenant (TENANT_QUEUED; None: see the module).

    ``head_start_s``: how much earlier a generation of high priority counts as come, and later one of low priority.
    """

    max_queue: int
    tenant_queued: int | None = None
    head_start_s: float = 60.0

    def queued_of(self, tenant: str) -> int:
        """Most waiting generations of this tenant."""
        if self.tenant_queued is not None:
            return self.tenant_queued
        return self.max_queue if tenant == LOCAL_TENANT else max(1, self.max_queue * 9 // 10)

    def shift_ms(self, priority: Priority) -> int:
        """By how much a waiting generation counts as come later."""
        signs = {Priority.HIGH: -1, Priority.NORMAL: 0, Priority.LOW: 1}
        return signs[priority] * int(self.head_start_s * 1000)
