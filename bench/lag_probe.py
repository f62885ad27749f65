"""A worker that also measures how late its event loop is: ``python -m bench.lag_probe FILE``.

A timer of 5 ms is set again and again; its lag is how much later it fires. SIGUSR1 forgets what was measured, SIGUSR2
writes it: ``{"lag_p50_ms": …, "lag_p99_ms": …, "lag_most_ms": …}``.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Final

import uvloop

from bench.figures import quantile
from broadcaster.observability.telemetry import set_up_logging
from broadcaster.settings import Settings
from worker.main import run

_EVERY_S: Final = 0.005


class LagProbe:
    """Measures the loop it is started on."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lags_s: list[float] = []

    def start(self) -> None:
        """Measure from now on, and hear the two signals."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, self._lags_s.clear)
        loop.add_signal_handler(signal.SIGUSR2, self._write)
        self._set(loop.time() + _EVERY_S)

    def _set(self, due: float) -> None:
        asyncio.get_running_loop().call_at(due, self._fired, due)

    def _fired(self, due: float) -> None:
        now = asyncio.get_running_loop().time()
        self._lags_s.append(now - due)
        self._set(now + _EVERY_S)

    def _write(self) -> None:
        delays = {
            "lag_p50_ms": quantile(self._lags_s, 0.5) * 1000,
            "lag_p99_ms": quantile(self._lags_s, 0.99) * 1000,
            "lag_most_ms": max(self._lags_s) * 1000,
        }
        written = self._file.with_suffix(".part")
        written.write_text(json.dumps(delays), "utf-8")
        written.rename(self._file)


async def work(file: Path) -> None:
    """A worker with the settings of the environment, and the probe beside it."""
    LagProbe(file).start()
    await run(Settings())


def main() -> None:
    """Entry point."""
    set_up_logging(Settings().log_level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
