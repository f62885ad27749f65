"""The worker's reports for operators: every ``REPORT_EVERY_S``, apart from its leases, which never wait for them."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from broadcaster.errors import LogUnavailable
from broadcaster.log.inspection.worker_reports import (
    REPORTED_ATTEMPTS,
    RunningAttempt,
    WorkerReport,
    WorkerReports,
)
from broadcaster.observability.limits import REACHED
from broadcaster.observability.logs import get_logger
from worker.runner import Runner

REPORT_EVERY_S: Final = 2.0
"""As often as the operator's page reads."""
_REPORTS_MISSED: Final = 5

_log = get_logger(__name__)


class WorkerReporter:
    """Reports while ``run`` runs. A report that Redis refuses (it is full, or away) is left out."""

    def __init__(self, reports: WorkerReports, worker: str, *, runner: Runner) -> None:
        self._reports = reports
        self._worker = worker
        self._runner = runner
        self._began_at = time.monotonic()

    async def run(self) -> None:
        """Report until cancelled."""
        is_stored = True
        while True:
            was_stored, is_stored = is_stored, await self._put()
            if was_stored and not is_stored:
                _log.info("worker_report_later", worker=self._worker)
            await asyncio.sleep(REPORT_EVERY_S)

    async def end(self) -> None:
        """Remove the report. Raises LogUnavailable."""
        await self._reports.drop(self._worker)

    async def _put(self) -> bool:
        try:
            async with asyncio.timeout(REPORT_EVERY_S):
                keep_ms = int(REPORT_EVERY_S * _REPORTS_MISSED * 1000)
                await self._reports.put(self._worker, self._report(), keep_ms=keep_ms)
        except (LogUnavailable, TimeoutError):
            return False
        return True

    def _report(self) -> WorkerReport:
        attempts = list(self._runner.attempts.values())
        return WorkerReport(
            uptime_s=time.monotonic() - self._began_at,
            slots=self._runner.slots.concurrency,
            free=self._runner.slots.free,
            running=len(attempts),
            is_draining=self._runner.draining.is_set(),
            limits={name: count for name, count in REACHED.items() if count},
            attempts=[
                RunningAttempt(each.meta.id, each.meta.model, each.meta.attempts, each.writer.epoch)
                for each in reversed(attempts[-REPORTED_ATTEMPTS:])
            ],
        )
