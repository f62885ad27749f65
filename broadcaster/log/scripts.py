"""The scripts, loaded from ``scripts/*.lua`` and named by their hash.

A script is called by hash; a server that does not know it (restart, failover) is given the text once more. In a
pipeline the unknown ones are answered with NOSCRIPT: only those calls are sent again, with the text, so that it comes
to whichever server the call comes to. On a cluster a pipeline is one write for each server, and each call has its own
error.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final, NamedTuple, TypeAlias

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

_INCLUDE: Final = re.compile(r"^-- @include (\w+)\n", re.MULTILINE)

Argument: TypeAlias = str | bytes | int | float


def _read(name: str) -> str:
    return files("broadcaster.log").joinpath(f"scripts/{name}.lua").read_text("utf-8")


@dataclass(frozen=True, slots=True)
class Script:
    """One Lua script: its text and the hash by which a server knows it."""

    name: str
    text: str
    sha: str

    @classmethod
    def load(cls, name: str) -> Script:
        """Read ``scripts/<name>.lua`` from the package, with what it includes in place."""
        text = _INCLUDE.sub(lambda line: _read(f"include/{line[1]}"), _read(name))
        return cls(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())

    async def run(self, redis: Redis, keys: Sequence[str], *args: Argument) -> Any:
        """Run it alone and return its integers; raises what redis-py raises, never NoScriptError."""
        try:
            return await redis.evalsha(self.sha, len(keys), *keys, *args)
        except NoScriptError:
            return await redis.eval(self.text, len(keys), *keys, *args)


class Call(NamedTuple):
    """A script call on its way into a pipeline."""

    script: Script
    keys: Sequence[str]
    args: Sequence[Argument]


async def run_all(redis: Redis, calls: Sequence[Call]) -> list[Any]:
    """Send all calls as one pipelined write; the answer of each is its result or its exception, in order.

    Raises only what concerns the connection to a single server (then nothing is known about any call).
    """
    pipeline = redis.pipeline(transaction=False)
    for call in calls:
        pipeline.evalsha(call.script.sha, len(call.keys), *call.keys, *call.args)
    results = await pipeline.execute(raise_on_error=False)
    unknown = [at for at, result in enumerate(results) if isinstance(result, NoScriptError)]
    if unknown:
        pipeline = redis.pipeline(transaction=False)
        for call in (calls[at] for at in unknown):
            pipeline.eval(call.script.text, len(call.keys), *call.keys, *call.args)
        for at, result in zip(unknown, await pipeline.execute(raise_on_error=False), strict=True):
            results[at] = result
    return results


ABANDON: Final = Script.load("abandon")
AGAIN: Final = Script.load("again")
ANNOUNCE: Final = Script.load("announce")
APPEND: Final = Script.load("append")
CHAT: Final = Script.load("chat")
CLAIM: Final = Script.load("claim")
CLOSE: Final = Script.load("close")
CREATE: Final = Script.load("create")
DELETE: Final = Script.load("delete")
DROP_CONSUMERS: Final = Script.load("drop_consumers")
ENQUEUE: Final = Script.load("enqueue")
FEED_APPEND: Final = Script.load("feed_append")
FEED_CREATE: Final = Script.load("feed_create")
FEED_LAPSE: Final = Script.load("feed_lapse")
FEED_RENEW: Final = Script.load("feed_renew")
FORGET: Final = Script.load("forget")
HEARTBEAT: Final = Script.load("heartbeat")
KEEP: Final = Script.load("keep")
LOSE: Final = Script.load("lose")
MEASURE: Final = Script.load("measure")
NEWEST_WORKER: Final = Script.load("newest_worker")
PRESENCE: Final = Script.load("presence")
PROBE: Final = Script.load("probe")
PROMOTE: Final = Script.load("promote")
PRUNE: Final = Script.load("prune")
RECORD: Final = Script.load("record")
REGAIN: Final = Script.load("regain")
RELEASE: Final = Script.load("release")
RENEW: Final = Script.load("renew")
RESTORE: Final = Script.load("restore")
RETIME: Final = Script.load("retime")
SETTLE: Final = Script.load("settle")
STOP: Final = Script.load("stop")
STORED: Final = Script.load("stored")
TAKE: Final = Script.load("take")
TAKE_SILENT: Final = Script.load("take_silent")
WEBHOOK_BEGIN: Final = Script.load("webhook_begin")
WEBHOOK_DUE: Final = Script.load("webhook_due")
WEBHOOK_PROMISE: Final = Script.load("webhook_promise")
WEBHOOK_SETTLE: Final = Script.load("webhook_settle")
WEBHOOK_TAKE: Final = Script.load("webhook_take")
WEBHOOK_TELL: Final = Script.load("webhook_tell")
