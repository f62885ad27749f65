"""The ``broadcaster up`` that runs over a data folder: its lock, which also holds the URL of its front-end.

The system removes the lock when the process ends, also by SIGKILL; the text in the file stays, and counts for nothing
without the lock. So a file that another user has put into a folder leads no command, and no key, anywhere; and `up`
empties no file that is not its own.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TextIO

from broadcaster.errors import SetupError
from broadcaster.log.redis.private_files import check_data_folder
from broadcaster.settings import Settings

LOCK_NAME: Final = "up.lock"
# A command that looks for a running `up` holds the lock for microseconds.
_TRIES: Final = 5
_RETRY_S: Final = 0.02


class RunningUp:
    """What ``only_one`` yields; ``is_first`` unless another `up` has the lock."""

    def __init__(self, file: TextIO, *, is_first: bool) -> None:
        self.is_first = is_first
        self._file = file

    @property
    def url(self) -> str:
        """The URL of the one that has the lock; empty while it starts."""
        self._file.seek(0)
        return self._file.read().strip()

    def announce(self, url: str) -> None:
        """Write the URL for the commands that come later. Needs the lock."""
        self._file.truncate(0)
        self._file.write(url)
        self._file.flush()


@contextmanager
def only_one(data_dir: Path) -> Iterator[RunningUp]:
    """Hold the lock of the data folder while the block runs, or find the `up` that holds it. Creates the folder.

    Raises SetupError when there can be no such folder, this user cannot write to it or others can, or another user may
    have put the lock there.
    """
    with _open_lock(data_dir) as file:
        if not _lock(file):
            yield RunningUp(file, is_first=False)
            return
        file.truncate(0)
        yield RunningUp(file, is_first=True)
        file.truncate(0)


def _open_lock(data_dir: Path) -> TextIO:
    path = data_dir / LOCK_NAME
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        check_data_folder(data_dir)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _not_ours(path) from error
        text = f"the data folder {data_dir} cannot be used ({error.strerror}); choose another with --data-dir"
        raise SetupError(text) from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
        os.close(descriptor)
        raise _not_ours(path)
    return os.fdopen(descriptor, "a+", encoding="utf-8")


def _not_ours(path: Path) -> SetupError:
    return SetupError(f"the lock {path} is no file of this user: remove it, or choose another folder with --data-dir")


def front_end_url(settings: Settings, *, is_named: bool) -> str:
    """The front-end that a command calls: the settings' if it is named, else that of the `up` over their folder."""
    return settings.url if is_named else find_url(Path(settings.data_dir)) or settings.url


def find_url(data_dir: Path) -> str | None:
    """The URL of the `up` that runs over this folder as this user; None if none does, or it is still starting."""
    try:
        file = (data_dir / LOCK_NAME).open(encoding="utf-8")
    except OSError:
        return None
    with file:
        if os.fstat(file.fileno()).st_uid != os.geteuid():
            return None
        url = file.read().strip()
        return url if url and _is_locked(file) else None


def _lock(file: TextIO) -> bool:
    for at in range(_TRIES):
        if at:
            time.sleep(_RETRY_S)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        return True
    return False


def _is_locked(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
