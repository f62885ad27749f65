"""``broadcaster key``: adds, lists and revokes callers' keys in Redis, for all front-ends. Connects to Redis.

A key is printed once, when it is made; Redis holds its digest alone. Keys of ``API_KEYS`` and ``API_KEYS_FILE`` are not
listed here: a front-end has them from its own settings.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer

from broadcaster.cli.front_end_client import Json
from broadcaster.cli.option_settings import with_options
from broadcaster.cli.redis_access import DataDir, RedisUrl, with_redis
from broadcaster.cli.terminal.exit_codes import CommandFailed, ExitCode
from broadcaster.cli.terminal.formats import age, as_json, number
from broadcaster.cli.terminal.screen import Screen
from broadcaster.cli.terminal.usage import quoted
from broadcaster.core.access.api_keys import check_tenant, credential_of, digest_of, read_key
from broadcaster.core.access.callers import USUAL_ACTIONS, Action
from broadcaster.core.requests.stream_ids import LOCAL_TENANT
from broadcaster.errors import SetupError, TenantLimit
from broadcaster.log.access.access_list import AccessList, StoredKey
from broadcaster.log.redis.connect import LogConnection

# By which people, and the scanners of code hosts, recognize a key of ours.
KEY_PREFIX: Final = "bck_"
KEY_BYTES: Final = 32
# As many digits as `key ls` prints; fewer are accepted while they name one key.
SHOWN_DIGITS: Final = 16
LEAST_DIGITS: Final = 6

key = typer.Typer(name="key", no_args_is_help=True, help="Callers' keys in Redis, for all front-ends with AUTH=keys.")

Rights = Annotated[
    list[Action] | None, typer.Option("--right", help="what its caller may do, repeatable; without it all but admin")
]


@key.command()
def add(
    tenant: Annotated[str, typer.Option("--tenant", help="the tenant whose streams its caller uses")] = LOCAL_TENANT,
    right: Rights = None,
    name: Annotated[str, typer.Option("--name", help="for logs and for `key revoke`")] = "",
    tokens_per_day: Annotated[
        int | None, typer.Option("--tokens-per-day", min=0, help="its own budget; without it that of the settings")
    ] = None,
    json: Json = False,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Make a key and print it, once: Redis keeps its digest. Every front-end admits it within a second."""
    made = KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
    record = {
        "tenant": tenant,
        "rights": sorted(right or USUAL_ACTIONS),
        "name": name,
        "created_ms": int(time.time() * 1000),
        "tokens_per_day": tokens_per_day,
    }
    digest = digest_of(made.encode())
    _check(digest.hex(), record)
    screen = Screen()

    async def work(opened: LogConnection) -> None:
        keys = AccessList(opened)
        taken = [stored for stored in (await keys.read()).keys if name and stored.key.caller.name == name]
        if taken:
            text = f"a key has the name {name!r} already; choose another, so that `key revoke` finds the right one"
            raise CommandFailed(text, ExitCode.FAILED)
        try:
            await keys.add_key(digest.hex(), record)
        except TenantLimit as error:
            raise CommandFailed(f"{error.code}: {error.detail}", ExitCode.FAILED) from error
        if json:
            screen.line(as_json({"key": made, "digest": digest.hex(), **record}))
        else:
            screen.line(made)
            screen.note(f"{credential_of(digest)} of tenant {tenant}; it is shown this once")

    asyncio.run(with_redis(with_options(redis_url=redis_url, data_dir=data_dir), work))


@key.command()
def ls(json: Json = False, redis_url: RedisUrl = None, data_dir: DataDir = None) -> None:
    """List the keys in Redis, by their digests, the newest first."""
    screen = Screen()

    async def work(opened: LogConnection) -> None:
        keys = AccessList(opened)
        found = sorted((await keys.read()).keys, key=lambda stored: -stored.created_ms)
        if json:
            screen.line(as_json([_document(stored) for stored in found]))
        elif found:
            rows = (_row(stored, now_s=time.time()) for stored in found)
            screen.table(rows, "DIGEST", "TENANT", "RIGHTS", "TOKENS/DAY", "NAME", "AGE")
        else:
            screen.note("no keys in Redis; make one with: broadcaster key add")

    asyncio.run(with_redis(with_options(redis_url=redis_url, data_dir=data_dir), work))


@key.command()
def revoke(
    which: Annotated[str, typer.Argument(metavar="DIGEST|NAME", help="the start of its digest, or its name")],
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Revoke a key: within a second no front-end admits it, and its callers' viewers are closed."""
    screen = Screen()

    async def work(opened: LogConnection) -> None:
        keys = AccessList(opened)
        chosen = _chosen((await keys.read()).keys, which)
        await keys.drop_key(chosen.digest)
        caller = chosen.key.caller
        screen.line(f"revoked {chosen.digest[:SHOWN_DIGITS]} of tenant {caller.tenant} {caller.name}".rstrip())

    asyncio.run(with_redis(with_options(redis_url=redis_url, data_dir=data_dir), work))


def _check(digest: str, record: dict[str, Any]) -> None:
    """Raises CommandFailed for a record that front-ends could not read; its rights are read already."""
    tenant = record["tenant"]
    try:
        check_tenant(tenant)
    except SetupError as error:
        raise CommandFailed(f"--tenant {quoted(tenant)}: {error.detail}", ExitCode.USAGE) from error
    for field, option in (("name", "--name"), ("tokens_per_day", "--tokens-per-day")):
        try:
            read_key({"sha256": digest, field: record[field]}, tenant=tenant)
        except ValueError as error:
            raise CommandFailed(f"{option} {quoted(record[field])}: {error}", ExitCode.USAGE) from error


def _chosen(found: Sequence[StoredKey], which: str) -> StoredKey:
    """The one key that this names: an empty text names none. Raises CommandFailed for no key, and for several."""
    is_digest = len(which) >= LEAST_DIGITS
    chosen = [
        stored
        for stored in found
        if which and (stored.key.caller.name == which or (is_digest and stored.digest.startswith(which.lower())))
    ]
    if len(chosen) != 1:
        fault = f"{number(len(chosen), 'key')} in Redis" if chosen else "no key in Redis"
        place = f"with the name {quoted(which)}, or whose digest begins so"
        text = f"{fault} {place} (with {LEAST_DIGITS} digits or more); see what there is with: broadcaster key ls"
        raise CommandFailed(text, ExitCode.FAILED)
    return chosen[0]


def _document(stored: StoredKey) -> dict[str, Any]:
    caller = stored.key.caller
    return {
        "digest": stored.digest,
        "tenant": caller.tenant,
        "rights": sorted(caller.actions),
        "name": caller.name,
        "tokens_per_day": caller.tokens_per_day,
        "created": stored.created_ms / 1000,
    }


def _row(stored: StoredKey, *, now_s: float) -> Sequence[str]:
    caller = stored.key.caller
    budget = "–" if caller.tokens_per_day is None else str(caller.tokens_per_day)
    rights, since = ",".join(sorted(caller.actions)), age(now_s - stored.created_ms / 1000)
    return stored.digest[:SHOWN_DIGITS], caller.tenant, rights, budget, caller.name or "–", since
