"""A user of Redis whose password a test changes, as an operator does by mistake."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from redis import Redis

from tests.support.log.valkey import start_valkey


@dataclass(frozen=True)
class RefusableUser:
    """Of the server at ``server_url``; its password in ``url`` is "one". ``admit`` creates it."""

    server_url: str

    @property
    def url(self) -> str:
        """The server's URL with this user and its password."""
        return self.server_url.replace("://", "://app:one@")

    def refuse(self) -> None:
        """From now on its password is another one, and its connections are ended."""
        self._set("resetpass", ">two")
        self._execute("CLIENT", "KILL", "USER", "app")

    def admit(self) -> None:
        """Its password is right."""
        self._set("resetpass", ">one")

    def _set(self, *rules: str) -> None:
        self._execute("ACL", "SETUSER", "app", "on", "~*", "&*", "+@all", *rules)

    def _execute(self, *command: str) -> None:
        with Redis.from_url(self.server_url, driver_info=None) as redis:
            redis.execute_command(*command)


@contextmanager
def server_with_user(port: int | None) -> Iterator[RefusableUser]:
    """A server that admits such a user. ``port``: 0 is a free one, None a unix socket alone."""
    # The path of a socket must be short.
    with tempfile.TemporaryDirectory(prefix="bc-") as folder, start_valkey(Path(folder), port=port) as running:
        user = RefusableUser(running.url)
        user.admit()
        yield user
