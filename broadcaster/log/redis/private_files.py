"""The folders and files of the embedded server: their owner, and which other users may use them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from broadcaster.errors import SetupError

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
# The files that the server creates: its data, in a folder of their own, and its log. A data folder may hold more.
_SERVER_FILES = ("appendonlydir", "appendonly.aof", "dump.rdb", "redis.log")


def check_own_folder(folder: Path) -> None:
    """Raises SetupError unless a folder, at a path that any user could have created, is ours and only ours to use.

    A link is refused too, because its owner could redirect it.
    """
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise SetupError(
            f"the folder for the embedded server's socket, {folder}, is not a folder of this user: another user of "
            "this machine may have put it there; remove it, or choose a shorter BROADCASTER_DATA_DIR"
        )
    if found.st_mode & _OTHERS_WRITE:
        raise SetupError(
            f"the folder for the embedded server's socket, {folder}, may be changed by other users: "
            f"remove it, or run: chmod 700 {folder}"
        )


def check_data_folder(folder: Path) -> None:
    """Raises SetupError when other users may write to the data folder: they could replace the data or the socket.

    A group of this process may write: the group of one user or of a container's volume is such a group.
    """
    found = folder.stat()
    is_foreign = found.st_uid not in (os.geteuid(), 0) and os.geteuid() != 0
    is_foreign_group = found.st_gid not in (os.getegid(), *os.getgroups())
    if is_foreign or found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and is_foreign_group):
        raise SetupError(
            f"other users may change the data folder {folder}: run chmod 700 {folder} (or chown it to this user), "
            "or name another with BROADCASTER_DATA_DIR"
        )


def make_private(folder: Path) -> None:
    """Remove other users' rights to the files that an earlier start has left in the data folder."""
    for name in _SERVER_FILES:
        path = folder / name
        for each in (path, *(path.glob("*") if path.is_dir() else ())):
            if each.exists() and not each.is_symlink():
                each.chmod(stat.S_IMODE(each.stat().st_mode) & ~(stat.S_IRWXG | stat.S_IRWXO))
