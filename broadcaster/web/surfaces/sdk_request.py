"""What a surface whose API cannot resume takes of every request, beside its body."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from fastapi import Depends, Request

from broadcaster.web.documents.parameters import IdempotencyKey, OnDisconnect
from broadcaster.web.here import Here
from broadcaster.web.services import Arrival


class SdkRequest(NamedTuple):
    """A request, and where it arrived. ``stops_on_disconnect``: see rule 4 in answering.py.

    ``on_abandon``: what happens to an answer without viewers that does not run in the background.
    """

    http: Request
    here: Arrival
    idempotency_key: str | None
    stops_on_disconnect: bool
    on_abandon: Literal["continue", "cancel"]

    @property
    def is_repeatable(self) -> bool:
        """Whether the same request begins another generation; one with an Idempotency-Key does not."""
        return self.idempotency_key is None


# A coroutine although it awaits nothing: FastAPI runs plain functions in a thread.
async def _sdk_request(
    *, request: Request, here: Here, idempotency_key: IdempotencyKey = None, on_disconnect: OnDisconnect = "stop"
) -> SdkRequest:
    on_abandon: Literal["continue", "cancel"] = "continue" if on_disconnect == "continue" else "cancel"
    return SdkRequest(request, here, idempotency_key, on_disconnect == "stop", on_abandon)


FromSdk = Annotated[SdkRequest, Depends(_sdk_request)]
