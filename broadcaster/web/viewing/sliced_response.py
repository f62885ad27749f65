"""Large JSON on its way to a client, in slices that count until they are taken (json_ledger.py, rule 4)."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from broadcaster.web.guards.json_ledger import JsonHold
from broadcaster.web.viewing.client_connection import connection_of, cut

SLICE_BYTES: Final = 64 * 2**10


class SlicedResponse(Response):
    """A response whose body is counted until its client has taken it (rule 4)."""

    def __init__(self, whole: Response, hold: JsonHold) -> None:
        self.status_code = whole.status_code
        self.background = whole.background
        self.raw_headers = whole.raw_headers
        self.body = whole.body
        self._hold = hold

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all of it. Raises ViewerCut when the client takes nothing and the server offers no way to abort."""
        body = memoryview(self.body)
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for at in range(0, len(body), SLICE_BYTES):
                piece, is_last = bytes(body[at : at + SLICE_BYTES]), at + SLICE_BYTES >= len(body)
                async with asyncio.timeout(self._hold.ledger.slow_s):
                    await send({"type": "http.response.body", "body": piece, "more_body": not is_last})
        except TimeoutError:
            await cut(connection_of(scope), "the client took nothing for too long")
        finally:
            self._hold.close()
        if self.background is not None:
            await self.background()
