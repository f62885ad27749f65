"""``/v1/usage``: the tokens of a tenant by day, credential and model.

A key sees its own tenant. A key with the right ``admin`` may name another one.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from pydantic import Field

from broadcaster.core.access.callers import Action
from broadcaster.errors import Forbidden
from broadcaster.log.access.daily_usage import KEEP_DAYS
from broadcaster.web.documents.problems import problem_responses
from broadcaster.web.documents.schemas import ResponseModel
from broadcaster.web.here import Here
from broadcaster.web.route_table import RouteTable

routes = RouteTable(prefix="/v1/usage", tag="usage")


class UsageOfDay(ResponseModel):
    """What one credential spent on one model in a day."""

    day: str = Field(description="of UTC")
    credential: str = Field(description="`key:` and the first 16 digits of the key's SHA-256; `-`: without keys")
    model: str
    input_tokens: int = Field(description="with those that a provider read from its cache or wrote to it")
    output_tokens: int
    requests: int = Field(description="attempts that ended")
    estimated_requests: int = Field(description="those whose provider never reported its counts")


class Budget(ResponseModel):
    """The caller's own budget."""

    tokens_per_day: int | None = Field(description="null: any number")
    spent_today: int


class UsageReport(ResponseModel):
    """The newest day first."""

    tenant: str
    budget: Budget
    usage: list[UsageOfDay]


@routes.get(
    "",
    operation_id="get_usage",
    summary="Tokens by day, key and model",
    responses=problem_responses("invalid_request", "forbidden", "log_unavailable"),
)
async def get_usage(
    here: Here,
    days: Annotated[int, Query(ge=1, le=KEEP_DAYS, description="so many days, today included")] = 7,
    tenant: Annotated[str | None, Query(max_length=64, description="another tenant: with the right admin")] = None,
) -> UsageReport:
    """Workers count at the end of each attempt; what runs now is not in it yet."""
    services, own, _ = here
    caller = services.visitor.caller
    if tenant not in (None, own) and caller is not None and Action.ADMIN not in caller.actions:
        raise Forbidden("the usage of another tenant needs the right admin")
    credential = "" if caller is None else caller.credential
    spent = await services.usage.spent(own, credential)
    rows = await services.usage.read(tenant or own, days=days)
    return UsageReport(
        tenant=tenant or own,
        budget=Budget(tokens_per_day=services.budget, spent_today=spent),
        usage=[UsageOfDay(**row._asdict()) for row in rows],
    )
