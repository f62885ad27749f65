"""One scrape for several processes: each writes its metrics to files of a private folder, and the parent adds them up.

The files have the format of prometheus-client's multiprocess mode, and its own collector reads them. Its metric classes
are not used: they would need a variable of the environment before their import, and a lock for each addition.

Rules
1. A process writes what has changed once a second: a scrape shows counts that are at most that old.
2. Counts of a process that has ended stay in the sums, so that no counter falls. Its gauges go.
3. Its files are added to one file of all that have ended: the folder does not grow with restarts.
4. The folder belongs to this user alone, and goes with the parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from prometheus_client import Metric as Family
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.utils import floatToGoString

from broadcaster.errors import SetupError
from broadcaster.observability.counting import Buckets, Reading, Source
from broadcaster.observability.logs import get_logger
from broadcaster.observability.metrics import METRICS, Kind, MetricSpec

WRITE_EVERY_S: Final = 1.0

_ENDED: Final = 0  # in place of a process id
_SUMMED: Final = ("counter", "histogram")

_log = get_logger(__name__)


class SharedWriter:
    """One process's files."""

    def __init__(self, folder: Path, *, pid: int | None = None) -> None:
        self._folder = folder
        self._pid = os.getpid() if pid is None else pid
        self._files: dict[str, MmapedDict] = {}
        self._keys: dict[tuple[str, tuple[str, ...]], Sequence[str]] = {}
        self._written: dict[str, float] = {}

    def write(self, readings: Iterable[Reading]) -> None:
        """Write what has changed."""
        sums: dict[str, tuple[str, float]] = {}
        for reading in readings:
            spec = METRICS[reading.metric]
            keys = self._keys.get((reading.metric, reading.labels))
            if keys is None:
                keys = self._keys[reading.metric, reading.labels] = _keys_of(spec, reading)
            for key, value in zip(keys, _values_of(reading), strict=True):
                before = sums.get(key)
                sums[key] = (_prefix_of(spec), value if before is None else before[1] + value)
        for key, (prefix, value) in sums.items():
            if self._written.get(key) != value:
                self._written[key] = value
                self._file(prefix).write_value(key, value, 0.0)

    async def run(self, source: Source) -> None:
        """Write every ``WRITE_EVERY_S`` until cancelled, and once more then."""
        try:
            while True:
                self.write(source())
                await asyncio.sleep(WRITE_EVERY_S)
        finally:
            self.write(source())

    def close(self) -> None:
        """Close the files, which stay."""
        for file in self._files.values():
            file.close()
        self._files = {}

    def _file(self, prefix: str) -> MmapedDict:
        file = self._files.get(prefix)
        if file is None:
            file = self._files[prefix] = MmapedDict(str(self._folder / f"{prefix}_{self._pid}.db"))
        return file


class SharedFolder:
    """The parent's side: reads the sums, and settles the files of children that have ended."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    @contextlib.contextmanager
    def open(cls) -> Iterator[SharedFolder]:
        """A new folder, for as long as the block lasts. Raises SetupError where none can be made."""
        try:
            path = Path(tempfile.mkdtemp(prefix="broadcaster-metrics-"))
        except OSError as error:
            raise SetupError(
                f"metrics of several processes need a folder for temporary files ({error.strerror}): set TMPDIR to one "
                "that can be written, or unset BROADCASTER_METRICS_PORT"
            ) from None
        try:
            yield cls(path)
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def collect(self) -> list[Family]:
        """The sums over all processes."""
        return list(MultiProcessCollector(None, path=str(self.path)).collect())

    def settle(self, pid: int) -> None:
        """This process has ended: keep its counts, and drop its gauges (rules 2 and 3)."""
        for prefix in _SUMMED:
            file = self.path / f"{prefix}_{pid}.db"
            if file.exists():
                self._add_to_ended(prefix, file)
        for file in self.path.glob(f"*_{pid}.db"):
            file.unlink(missing_ok=True)

    def _add_to_ended(self, prefix: str, file: Path) -> None:
        ended = MmapedDict(str(self.path / f"{prefix}_{_ENDED}.db"))
        try:
            for key, value, _, _ in MmapedDict.read_all_values_from_file(str(file)):
                json.loads(key)  # raises for a torn one, which every scrape would fail on
                ended.write_value(key, ended.read_value(key)[0] + value, 0.0)
        except Exception as error:  # it was killed while it wrote: what was read counts
            _log.warning("metrics_file_torn", file=file.name, error=type(error).__name__)
        finally:
            ended.close()


def _prefix_of(spec: MetricSpec) -> str:
    return f"gauge_live{spec.merge}" if spec.kind is Kind.GAUGE else spec.kind.value


def _keys_of(spec: MetricSpec, reading: Reading) -> Sequence[str]:
    """The keys of a reading's values, in the order of ``_values_of``."""
    names, labels = list(spec.labels), list(reading.labels)
    if not isinstance(reading.value, Buckets):
        return [mmap_key(spec.name.removesuffix("_total"), spec.name, names, labels, spec.meaning)]
    bounds = [floatToGoString(bound) for bound in (*reading.value.bounds, float("inf"))]
    return [
        mmap_key(spec.name, f"{spec.name}_sum", names, labels, spec.meaning),
        *(mmap_key(spec.name, f"{spec.name}_bucket", [*names, "le"], [*labels, le], spec.meaning) for le in bounds),
    ]


def _values_of(reading: Reading) -> Sequence[float]:
    value = reading.value
    return [value.sum, *value.counts] if isinstance(value, Buckets) else [value]
