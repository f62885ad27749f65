"""``/v1/streams/{id}/tokens`` and ``/v1/tokens/revoke``: viewer tokens of our own app (docs/tokens.md).

Rules
1. A key mints, for its own tenant and for no more than it may do itself. A token never mints, and never revokes.
2. A token may be minted for a stream that does not exist yet. So its creation reveals nothing about the stream.
3. A revocation counts for the tenant of its caller alone. It ends what others watch: its key needs the right ``stop``.
"""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Body, Path, Request, Response

from broadcaster.core.access.callers import CALLER_KEY, Action, Caller
from broadcaster.errors import Forbidden, InvalidInput
from broadcaster.web.documents.problems import InvalidRequest, RequestFault, problem_responses
from broadcaster.web.documents.token_schemas import RevocationBody, TokenBody, TokenView
from broadcaster.web.here import Here
from broadcaster.web.route_table import RouteTable

_REFUSED: Final = ("invalid_request", "unsupported_media_type", "tokens_off", "forbidden")

routes = RouteTable(prefix="/v1", tag="tokens")


@routes.post(
    "/streams/{stream_id}/tokens",
    status_code=201,
    summary="Create a viewer token",
    responses=problem_responses(*_REFUSED),
)
async def create_token(
    *,
    request: Request,
    here: Here,
    stream_id: Annotated[str, Path(description="the generation's or feed's id, which need not exist yet; or a prefix")],
    body: Annotated[TokenBody | None, Body()] = None,
) -> TokenView:
    """A short-lived token for one stream, or for all whose id begins with a prefix. It acts for the key's tenant."""
    services, tenant, base = here
    wanted = body or TokenBody()
    caller: Caller | None = request.scope.get(CALLER_KEY)
    if caller is not None and not caller.may(map(Action, wanted.actions), stream_id=stream_id):
        raise Forbidden(f"this key allows {', '.join(sorted(caller.actions))}: a token cannot allow more")
    try:
        minted = services.mint.mint(
            stream_id,
            tenant=tenant,
            actions=wanted.actions,
            ttl_s=wanted.ttl_s,
            subject=wanted.sub or "",
            minted_by="" if caller is None else caller.credential,
            is_prefix=wanted.prefix,
        )
    except InvalidInput as error:
        if error.code != InvalidInput.code:
            raise
        field = error.detail.partition(" ")[0]
        place = ("body", f"#/{field}") if field in TokenBody.model_fields else ("path", "stream_id")
        raise InvalidRequest(error.detail, faults=[RequestFault(*place, error.detail)]) from error
    is_watchable = "watch" in wanted.actions and not wanted.prefix
    return TokenView(
        token=minted.text,
        jti=minted.token.id,
        expires_at=minted.token.expires_s,
        events_url=base + minted.events_path(stream_id) if is_watchable else None,
    )


@routes.post(
    "/tokens/revoke",
    status_code=204,
    response_class=Response,
    summary="Revoke viewer tokens",
    responses=problem_responses(*_REFUSED, "tenant_limit", "log_unavailable"),
)
async def revoke_tokens(*, request: Request, here: Here, body: Annotated[RevocationBody, Body()]) -> Response:
    """Every front-end refuses them, and ends their open connections, in less than a second. Needs the right `stop`."""
    caller: Caller | None = request.scope.get(CALLER_KEY)
    if caller is not None and Action.STOP not in caller.actions:
        allowed = ", ".join(sorted(caller.actions))
        raise Forbidden(f"this key does not allow stop, which a revocation needs; it allows {allowed}")
    await here.services.revoke_tokens(here.tenant, token_id=body.jti or "", subject=body.sub or "")
    return Response(status_code=204)
