"""One scrape for several processes: each writes its metrics to files of a private folder, and the parent adds them up.

The files have the format of prometheus-client's multiprocess mode, and its own collector reads them. Its metric classes
are not used: they would need a variable of the environment before their import, and a lock for each addition. Nor are
its files, which are mapped into memory: with a full disk, a write to them ends the process (SIGBUS).

Rules
1. A process writes what has changed once a second: a scrape shows counts that are at most that old.
2. Counts of a process that has ended stay in the sums, so that no counter falls. Its gauges go.
3. Its files are added to one file of all that have ended: the folder does not grow with restarts.
4. The folder belongs to this user alone, and goes with the parent.
5. Counts that cannot be written now (a full disk, no free descriptor) are logged and written later. No process ends.
6. A gauge that its process reads no more goes, as one of a process that has ended: a file without it takes the place
   of the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import shutil
import struct
import tempfile
from collections.abc import Iterable, Iterator, KeysView, Mapping, Sequence
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
_BESIDE: Final = ".new"  # no scrape reads it

# The format of a file: a head with the bytes in use, then for each value the length of its key, the key, blanks up to a
# multiple of eight bytes, the value and a time.
_HEAD: Final = struct.Struct("i4x")
_HEAD_BYTES: Final = _HEAD.size
_KEY_LENGTH: Final = struct.Struct("i")
_VALUE: Final = struct.Struct("dd")

_log = get_logger(__name__)


class CountFile:
    """Values by key, in the format of prometheus-client's MmapedDict. Every call raises OSError if the file cannot be
    written; a key that it could not add is not in the file."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._positions: dict[str, int] = {}
        self._used_bytes = _HEAD_BYTES
        is_new = not os.fstat(self._file).st_size
        try:
            if is_new:
                self._write(_HEAD.pack(self._used_bytes), 0)
            else:
                for key, _, _, position in MmapedDict.read_all_values_from_file(str(path)):
                    self._positions[key] = position
                    self._used_bytes = position + _VALUE.size
        except OSError:
            self.close()
            if is_new:
                path.unlink()  # no reader accepts an empty one
            raise

    @property
    def keys(self) -> KeysView[str]:
        """The keys that have a value."""
        return self._positions.keys()

    def read(self, key: str) -> float:
        """The value of this key; 0 if it has none."""
        position = self._positions.get(key)
        return 0.0 if position is None else float(_VALUE.unpack(os.pread(self._file, _VALUE.size, position))[0])

    def write(self, key: str, value: float) -> None:
        """Set the value of this key."""
        position = self._positions.get(key)
        if position is not None:
            self._write(_VALUE.pack(value, 0.0), position)
            return
        encoded = key.encode()
        padding = b" " * (8 - (_KEY_LENGTH.size + len(encoded)) % 8)
        entry = _KEY_LENGTH.pack(len(encoded)) + encoded + padding + _VALUE.pack(value, 0.0)
        self._write(entry, self._used_bytes)
        self._write(_HEAD.pack(self._used_bytes + len(entry)), 0)  # last: readers trust it
        self._used_bytes += len(entry)
        self._positions[key] = self._used_bytes - _VALUE.size

    def close(self) -> None:
        """Close it. The file stays."""
        os.close(self._file)

    def _write(self, content: bytes, position: int) -> None:
        if os.pwrite(self._file, content, position) < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class SharedWriter:
    """One process's files."""

    def __init__(self, folder: Path, *, pid: int | None = None) -> None:
        self._folder = folder
        self._pid = os.getpid() if pid is None else pid
        self._files: dict[str, CountFile] = {}
        self._keys: dict[tuple[str, tuple[str, ...]], Sequence[str]] = {}
        self._written: dict[str, float] = {}
        self._has_failed = False

    def write(self, readings: Iterable[Reading]) -> None:
        """Write what has changed (rules 1, 5 and 6)."""
        sums: dict[str, tuple[str, float]] = {}
        for reading in readings:
            spec = METRICS[reading.metric]
            keys = self._keys.get((reading.metric, reading.labels))
            if keys is None:
                keys = self._keys[reading.metric, reading.labels] = _keys_of(spec, reading)
            for key, value in zip(keys, _values_of(reading), strict=True):
                before = sums.get(key)
                sums[key] = (_prefix_of(spec), value if before is None else before[1] + value)
        failure: OSError | None = None
        try:
            self._drop_gauges({key: value for key, (_, value) in sums.items()})
        except OSError as error:
            failure = error
        for key, (prefix, value) in sums.items():
            if self._written.get(key) != value:
                try:
                    self._file(prefix).write(key, value)
                except OSError as error:
                    failure = error
                else:
                    self._written[key] = value
        if failure is not None and not self._has_failed:
            _log.error("metrics_not_written", folder=str(self._folder), error=str(failure))
        self._has_failed = failure is not None

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

    def _drop_gauges(self, values: Mapping[str, float]) -> None:
        """Leave out the gauges that have no value any more (rule 6). Raises OSError."""
        for prefix, file in tuple(self._files.items()):
            gone = () if prefix in _SUMMED else file.keys - values.keys()
            if gone:
                self._files[prefix] = self._replaced(prefix, {key: values[key] for key in file.keys & values.keys()})
                file.close()
                for key in gone:
                    self._written.pop(key, None)

    def _replaced(self, prefix: str, values: Mapping[str, float]) -> CountFile:
        path = self._path(prefix)
        beside = path.with_suffix(_BESIDE)
        beside.unlink(missing_ok=True)
        file = CountFile(beside)
        try:
            for key, value in values.items():
                file.write(key, value)
            beside.rename(path)  # a scrape finds all values, or all that there were before
        except OSError:
            file.close()
            raise
        return file

    def _file(self, prefix: str) -> CountFile:
        file = self._files.get(prefix)
        if file is None:
            file = self._files[prefix] = CountFile(self._path(prefix))
        return file

    def _path(self, prefix: str) -> Path:
        return self._folder / f"{prefix}_{self._pid}.db"


class SharedFolder:
    """The parent's side: reads the sums, and settles the files of children that have ended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ended: set[int] = set()

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
        """This process has ended: keep its counts, and drop its gauges (rules 2 and 3).

        Raises nothing (rule 5): what could not be done is done when the next process has ended.
        """
        self._ended.add(pid)
        for each in sorted(self._ended):
            try:
                self._settle(each)
            except OSError as error:
                _log.error("metrics_not_settled", pid=each, error=str(error))
            else:
                self._ended.discard(each)

    def _settle(self, pid: int) -> None:
        for prefix in _SUMMED:
            file = self.path / f"{prefix}_{pid}.db"
            if file.exists():
                self._add_to_ended(prefix, file)
                file.unlink()
        for file in self.path.glob(f"*_{pid}.*"):
            file.unlink(missing_ok=True)

    def _add_to_ended(self, prefix: str, file: Path) -> None:
        values = _read_values(file)
        ended = CountFile(self.path / f"{prefix}_{_ENDED}.db")
        try:
            for key, _ in values:  # needs space, and adds nothing yet: if it fails, it can be repeated
                ended.write(key, ended.read(key))
            for key, value in values:
                ended.write(key, ended.read(key) + value)
        finally:
            ended.close()


def _read_values(file: Path) -> list[tuple[str, float]]:
    """The values of a process that has ended. Raises OSError."""
    values = list[tuple[str, float]]()
    try:
        for key, value, _, _ in MmapedDict.read_all_values_from_file(str(file)):
            json.loads(key)  # raises for a torn one, which every scrape would fail on
            values.append((key, value))
    except OSError:
        raise
    except Exception as error:  # it was killed while it wrote: what was read counts
        _log.warning("metrics_file_torn", file=file.name, error=type(error).__name__)
    return values


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
