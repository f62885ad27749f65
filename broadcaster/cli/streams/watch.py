"""``tail``, ``stop`` and ``delete``: watch a stream, end it, and remove it."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
import typer

from broadcaster.cli.front_end_client import Id, Json, Plain, Url, Visit, check_id
from broadcaster.cli.terminal.exit_codes import CommandFailed, ExitCode
from broadcaster.cli.terminal.formats import as_json
from broadcaster.client import AsyncClient, ClientError, Generation
from broadcaster.core.cursor import Cursor
from broadcaster.errors import BadCursor

_NOT_LISTED: Final = frozenset({"prompt", "usage", "answered_by", "provider_request_id", "text", "reasoning", "parts"})


def tail(
    id: Id,
    after: Annotated[str | None, typer.Option(metavar="CURSOR", help="only what follows this entry id")] = None,
    plain: Plain = False,
    json: Json = False,
    url: Url = None,
) -> None:
    """Watch a generation from its beginning, or after a cursor, to its end. Watching does not affect it."""
    try:
        cursor = None if after is None else Cursor.parse(after)
    except BadCursor as error:
        raise CommandFailed(f"--after {after}: {error.detail}; copy an entry's id", ExitCode.USAGE) from error
    visit = Visit(url, is_plain=plain or json, stream=id)

    visit.run(lambda client: visit.watch(client, id, after=cursor, as_json=json))


def stop(id: Id, json: Json = False, url: Url = None) -> None:
    """End a generation for all its viewers."""
    visit = Visit(url, stream=id)

    async def work(client: AsyncClient) -> None:
        generation = await client.stop(id)
        if json:
            visit.screen.line(as_json(_listed(generation)))
        elif generation.is_over:
            visit.screen.note(f"{id} is over: {generation.status}")
        else:
            visit.screen.note(f"stop of {id} requested")

    visit.run(work)


def delete(
    ids: Annotated[list[str], typer.Argument(metavar="ID…", help="generations and feeds")],
    json: Json = False,
    url: Url = None,
) -> None:
    """Delete generations and feeds: what is open is stopped first, and its viewers see that end."""
    visit = Visit(url)
    for id in ids:
        check_id(id)

    async def work(client: AsyncClient) -> None:
        for id in ids:
            visit.stream = id
            await _delete(client, id)
            if json:
                visit.screen.line(as_json({"id": id, "deleted": True}))
            else:
                visit.screen.note(f"{id} is deleted")

    visit.run(work)


async def _delete(client: AsyncClient, id: str) -> None:
    """Delete the generation, or else the feed, of this id."""
    try:
        await client.delete(id)
    except ClientError as unknown:
        if unknown.code != "unknown_stream":
            raise
        await client.delete_stream(id)


def _listed(generation: Generation) -> dict[str, Any]:
    """The fields of a list: it has no answers, and an empty one would be wrong."""
    return {name: value for name, value in msgspec.to_builtins(generation).items() if name not in _NOT_LISTED}
