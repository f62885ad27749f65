"""``here: Here``: how a route asks FastAPI for the services, the tenant and the path of its request."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from broadcaster.web.services import Arrival, arrival_in


# A coroutine although it awaits nothing: FastAPI runs plain functions in a thread.
async def _arrival(request: Request) -> Arrival:
    """FastAPI calls it when the body is read. Raises what ``check_admitted`` does."""
    arrival = arrival_in(request.scope)
    caller = arrival.services.visitor.caller
    if caller is not None:
        arrival.services.check_admitted(caller)
    return arrival


Here = Annotated[Arrival, Depends(_arrival)]
