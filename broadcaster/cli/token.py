"""``broadcaster token``: makes and revokes viewer tokens, through a front-end and with the caller's key.

``broadcaster token STREAM`` makes one. For a stream that is named like a command here, ``create`` stands before it.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from broadcaster.cli.front_end_client import Json, Url, Visit
from broadcaster.cli.terminal.exit_codes import CommandFailed, ExitCode
from broadcaster.cli.terminal.formats import as_json
from broadcaster.client import AsyncClient

_CREATE = "create"
# As long as BROADCASTER_TOKEN_MAX_S can be.
LONGEST_TTL_S = 31 * 86_400


class _TokenCommands(TyperGroup):
    """Arguments that begin with no command's name are those of ``create``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See click."""
        if args and not {args[0]} & {*self.commands, "--help"}:
            args = [_CREATE, *args]
        return super().parse_args(ctx, args)


token = typer.Typer(
    name="token",
    cls=_TokenCommands,
    no_args_is_help=True,
    help="Viewer tokens: short-lived, for one stream or a prefix. `broadcaster token STREAM` makes one.",
)


@token.command(_CREATE)
def create(
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="the stream's id, which need not exist yet")],
    watch: Annotated[bool, typer.Option("--watch", help="its holder may watch: also without an action")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="its holder may stop the generation")] = False,
    append: Annotated[bool, typer.Option("--append", help="its holder may create the feed, and append to it")] = False,
    prefix: Annotated[bool, typer.Option("--prefix", help="all streams whose id begins with STREAM")] = False,
    ttl: Annotated[
        float | None,
        typer.Option("--ttl", metavar="S", min=1, max=LONGEST_TTL_S, help="how long it lives; without it TOKEN_TTL_S"),
    ] = None,
    sub: Annotated[str | None, typer.Option("--sub", help="for whom it is: `revoke --sub` names it")] = None,
    json: Json = False,
    url: Url = None,
) -> None:
    """Make a token and print it: with --json also its id, its end, and the URL of the events."""
    visit = Visit(url, stream=stream, given={"ttl_s": f"--ttl {ttl}", "sub": f"--sub {sub}"})
    actions = [name for name, is_given in (("watch", watch), ("stop", stop), ("append", append)) if is_given]

    async def work(client: AsyncClient) -> None:
        made = await client.create_token(stream, actions=actions or ("watch",), ttl_s=ttl, sub=sub, prefix=prefix)
        visit.screen.line(as_json(made) if json else made.token)
        if not json and sys.stdout.isatty():
            visit.screen.note(f"id {made.jti}; revoke it with: broadcaster token revoke {made.jti}")

    visit.run(work)


@token.command()
def revoke(
    jti: Annotated[str | None, typer.Argument(metavar="[JTI]", help="the id of one token")] = None,
    sub: Annotated[str | None, typer.Option("--sub", help="all tokens of this subject made until now")] = None,
    url: Url = None,
) -> None:
    """Refuse a token, or all of a subject, on every front-end within a second; their viewers end, too."""
    if (jti is None) == (sub is None):
        raise CommandFailed("name either the id of a token or --sub", ExitCode.USAGE)
    visit = Visit(url)

    async def work(client: AsyncClient) -> None:
        await client.revoke_tokens(jti=jti, sub=sub)
        visit.screen.note(f"revoked {jti}" if sub is None else f"revoked all tokens of {sub} that were made until now")

    visit.run(work)
