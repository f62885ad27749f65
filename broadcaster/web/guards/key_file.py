"""The file with callers' keys (``API_KEYS_FILE``): read at the start, and again whenever it has changed.

Rules
1. The file has the form of ``API_KEYS``, and digests alone: a copy of it admits no caller.
2. A file that others may write to is refused, as they could admit callers. Its owner is this process's user or root.
   Owner and mode are those of the file that was opened: a link (a mounted secret is one) is followed.
3. A file that cannot be read any more changes nothing: the keys that were read last stay valid until it can be.
"""

from __future__ import annotations

import os
import stat
from typing import Final

from broadcaster.core.access.api_keys import Keyring
from broadcaster.errors import SetupError

MAX_FILE_BYTES: Final = 2**20

_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_SETTING: Final = "BROADCASTER_API_KEYS_FILE"


class TrustedFile:
    """A file of callers' keys, or of an issuer's. It decides which callers are admitted; errors name ``setting``."""

    def __init__(self, path: str, *, setting: str, max_bytes: int) -> None:
        self._path = path
        self._setting = setting
        self._max_bytes = max_bytes
        self._seen: tuple[int, ...] | None = None

    def read_changed(self) -> str | None:
        """The text, if the file has changed since the previous call; None: it has not. Blocks.

        Raises SetupError when (1) there is no readable file, (2) others may write to it (rule 2), (3) it is too large,
        (4) it is not UTF-8. The same file is refused once, and then unchanged.
        """
        try:
            with open(self._path, "rb", opener=_open_without_wait) as file:
                found = os.fstat(file.fileno())
                version: tuple[int, ...] = (found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)
                if version == self._seen:
                    return None
                self._seen = version
                self._check(found)
                content = file.read(self._max_bytes + 1)
        except OSError as error:
            if self._seen == (error.errno,):
                return None
            self._seen = (error.errno or 0,)
            raise SetupError(f"{self._setting}: {self._path} cannot be read: {error.strerror}") from None
        if len(content) > self._max_bytes:
            raise self.unusable(f"it has more than {self._max_bytes} bytes")
        try:
            return content.decode()
        except UnicodeDecodeError:  # whose text repeats a part of the file
            raise self.unusable("it is not UTF-8") from None

    def unusable(self, fault: object) -> SetupError:
        """The error of a file with this content; ``fault`` repeats nothing of it."""
        return SetupError(f"{self._setting}: {self._path}: {fault}")

    def _check(self, found: os.stat_result) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise SetupError(f"{self._setting}: {self._path} is not a file")
        if found.st_uid not in (os.geteuid(), 0) or found.st_mode & _OTHERS_WRITE:
            raise SetupError(
                f"{self._setting}: other users may change {self._path}, and so admit callers: "
                "run chmod go-w on it, and chown it to this user or root"
            )


class KeyFile:
    """One file, and what was read of it last."""

    def __init__(self, path: str) -> None:
        self._file = TrustedFile(path, setting=_SETTING, max_bytes=MAX_FILE_BYTES)

    def read_changed(self) -> Keyring | None:
        """The keys, if the file has changed since the previous call; None: it has not. Blocks.

        Raises SetupError when the file cannot be trusted or read, and when it does not hold digests of keys. The same
        file is refused once, and then unchanged.
        """
        text = self._file.read_changed()
        if text is None:
            return None
        try:
            return Keyring.read(text, only_digests=True)
        except ValueError as error:  # its text repeats nothing of the file
            raise self._file.unusable(error) from None


def _open_without_wait(path: str, flags: int) -> int:
    # A FIFO would block until it has a writer.
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
