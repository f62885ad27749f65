"""Request bodies, read strictly: what two readers could understand differently is refused.

A body is JSON in UTF-8 (RFC 8259, 8.1), without NaN and Infinity, and no object names a member twice: which of the two
counts would depend on the reader, and a proxy that checks requests may be another one than we are (RFC 7493, 2.3).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NoReturn

from fastapi import Request, Response
from fastapi.routing import APIRoute

from broadcaster.web.problems import Fault, InvalidRequest


def decode_body(body: bytes) -> Any:
    """The body's value.

    Raises json.JSONDecodeError where the grammar is broken, and InvalidRequest when it (1) is not UTF-8, (2) has NaN or
    Infinity, (3) names a member twice, (4) is nested too deeply or (5) has a number too long to be read.
    """
    try:
        return json.loads(body.decode(), object_pairs_hook=_members, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise _invalid(f"not UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise _invalid("nested too deeply") from None
    except json.JSONDecodeError:
        raise
    except ValueError:
        raise _invalid("a number has too many digits") from None


class StrictJsonRoute(APIRoute):
    """A route whose body is read by `decode_body`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's documented way to read a request differently."""
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return handle_strictly


class _StrictRequest(Request):
    async def json(self) -> Any:
        return decode_body(await self.body())


def _members(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise _invalid("an object names the same member twice")
    return members


def _refuse_constant(_: str) -> NoReturn:
    raise _invalid("NaN and Infinity are not JSON")


def _invalid(detail: str) -> InvalidRequest:
    return InvalidRequest(f"body #: {detail}", faults=[Fault("body", "#", detail)])
