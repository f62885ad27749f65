"""``here: Here``: how a route asks FastAPI for the services, the tenant and the path of its request."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from broadcaster.web.services import Arrival, Services, arrival_in


# A coroutine although it awaits nothing: FastAPI runs plain functions in a thread.
async def _arrival(request: Request) -> Arrival:
    """FastAPI calls it when it has read the body. Raises what ``check_credential`` does."""
    arrival = arrival_in(request.scope)
    check_credential(arrival.services)
    return arrival


def check_credential(services: Services) -> None:
    """Raises what ``check_admitted`` does, if the request has a credential; a body may take longer than that lives.

    A route that reads the body itself calls it when the body is whole: FastAPI has made its ``Here`` by the head alone.
    """
    caller = services.visitor.caller
    if caller is not None:
        services.check_admitted(caller)


Here = Annotated[Arrival, Depends(_arrival)]
