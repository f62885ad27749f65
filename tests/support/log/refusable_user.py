"""A user of Redis whose password a test changes, as an operator does by mistake."""

from __future__ import annotations

from dataclasses import dataclass

from redis import Redis


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
