"""The scripts, loaded from ``scripts/*/*.lua`` and named by their hash.

A script is called by hash; a server that does not know it (restart, failover) receives the text. In a pipeline only the
calls that failed with NOSCRIPT are repeated, each with its text, so that the text reaches the server of the call. On a
cluster a pipeline is one write for each server, and each call has its own error.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Final, NamedTuple, TypeAlias

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from broadcaster.log.redis.client import LogRedis
from broadcaster.log.redis.connect import log_errors
from broadcaster.log.redis.topology.nodes import Command

_INCLUDE: Final = re.compile(r"^-- @include (\w+)\n", re.MULTILINE)

Argument: TypeAlias = str | bytes | int | float


def _files_of(folder: Traversable) -> dict[str, Traversable]:
    return {path.name.removesuffix(".lua"): path for path in folder.iterdir()}


_FOLDERS: Final = [each for each in files("broadcaster.log.redis").joinpath("scripts").iterdir() if each.is_dir()]
_PATHS: Final = {name: path for folder in _FOLDERS for name, path in _files_of(folder).items()}
"""Every script and every include, by its name: names are unique over all folders."""


def _text(name: str, included: set[str]) -> str:
    """A file's text with its includes in place, and theirs: each include once."""

    def text_of(include: re.Match[str]) -> str:
        if include[1] in included:
            return ""
        included.add(include[1])
        return _text(include[1], included)

    return _INCLUDE.sub(text_of, _PATHS[name].read_text("utf-8"))


@dataclass(frozen=True, slots=True)
class StoredScript:
    """One Lua script: its text and the hash by which a server knows it."""

    name: str
    text: str
    sha: str

    @classmethod
    def load(cls, name: str) -> StoredScript:
        """Read ``<name>.lua`` from its folder in the package, with its includes in place."""
        text = _text(name, set())
        return cls(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())

    async def run(self, redis: Redis, keys: Sequence[str], *args: Argument) -> Any:
        """Run it alone and return its integers.

        Raises LogUnavailable when the same call may succeed later, else redis-py's error.
        """
        with log_errors():
            try:
                return await redis.evalsha(self.sha, len(keys), *keys, *args)
            except NoScriptError:
                return await redis.eval(self.text, len(keys), *keys, *args)


class ScriptCall(NamedTuple):
    """A script call on its way into a pipeline."""

    script: StoredScript
    keys: Sequence[str]
    args: Sequence[Argument]


async def run_all(redis: LogRedis, calls: Sequence[ScriptCall]) -> list[Any]:
    """Send all calls as one pipelined write; each returns its result or its exception, in order.

    Raises only errors of the connection to a single server; then the outcome of every call is unknown.
    """
    results = await redis.send_all([_command("EVALSHA", call.script.sha, call) for call in calls])
    unknown = [at for at, result in enumerate(results) if isinstance(result, NoScriptError)]
    if unknown:
        texts = [_command("EVAL", calls[at].script.text, calls[at]) for at in unknown]
        for at, result in zip(unknown, await redis.send_all(texts), strict=True):
            results[at] = result
    return results


def _command(name: str, script: str, call: ScriptCall) -> Command:
    keys = call.keys
    return Command((name, script, len(keys), *keys, *call.args), key=keys[0].encode())


SCRIPTS: Final = {
    name: StoredScript.load(name) for folder in _FOLDERS if folder.name != "include" for name in _files_of(folder)
}
"""Every script, by its name."""
