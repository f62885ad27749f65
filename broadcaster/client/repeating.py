"""Idempotent calls, each repeated until its response counts.

Rules
1. A retryable failure is repeated RETRIES times. A call that writes to a feed is repeated for as long as it has time: a
   front-end that restarts must not cost a program its events.
2. Before the first response the address may be wrong, and a user waits: rule 1 then knows no exception.
3. A pause that outlasts the call's time is not begun. Where RETRIES holds, neither is one of more than
   LONGEST_RETRY_DELAY_S: the caller decides whether to retry.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any, Final

import httpx2

from broadcaster.client.address import shown_address
from broadcaster.client.errors import BadAnswer, CannotConnect, ClientError
from broadcaster.client.responses import error_of
from broadcaster.core.backoff import BackOff

CONNECT_TIMEOUT_S: Final = 5.0
RETRIES: Final = 2
LONGEST_RETRY_DELAY_S: Final = 5.0
_BACK_OFF: Final = BackOff(0.4, 0.8)
# A front-end that stays away is requested less often.
_OUTAGE_BACK_OFF: Final = BackOff(0.4, 2.0)


class RepeatedCalls:
    """The calls of one client over ``http``."""

    def __init__(self, http: httpx2.AsyncClient, *, timeout_s: float, retries: int | None) -> None:
        """``retries`` replaces RETRIES, and then holds for the calls that write to a feed as well."""
        self._http = http
        self._timeout_s = timeout_s
        self._retries = RETRIES if retries is None else retries
        self._outlasts_outages = retries is None
        self._has_response = False
        http.event_hooks["response"].append(self._note_response)

    async def call(
        self, method: str, path: str, *, wait_s: float = 0.0, writes: bool = False, **request: Any
    ) -> httpx2.Response:
        """The response of success, within ``timeout_s`` plus ``wait_s``; ``writes``: the call writes to a feed.

        Raises ClientError.
        """
        total_s = self._timeout_s + wait_s
        request["timeout"] = httpx2.Timeout(total_s, connect=min(CONNECT_TIMEOUT_S, total_s))
        try:
            async with asyncio.timeout(total_s):
                return await self._repeated(method, path, request, limit_s=total_s, writes=writes)
        except TimeoutError:
            raise self._cannot_connect(f"no response within {total_s:g} s") from None

    async def _repeated(
        self, method: str, path: str, request: dict[str, Any], *, limit_s: float, writes: bool
    ) -> httpx2.Response:
        now = asyncio.get_running_loop().time
        ends_at, failures = now() + limit_s, 0
        while True:
            result = await self._result(method, path, request)
            if isinstance(result, httpx2.Response):
                return result
            failures += 1
            is_bounded = not (writes and self._outlasts_outages and self._has_response)
            back_off = _BACK_OFF if is_bounded else _OUTAGE_BACK_OFF
            requested_s = result.retry_after_s or 0.0
            delay_s = max(back_off.pause_s(failures, luck=random.random()), requested_s)
            is_last = is_bounded and (failures > self._retries or requested_s > LONGEST_RETRY_DELAY_S)
            if is_last or not result.retry or now() + delay_s >= ends_at:
                raise result
            await asyncio.sleep(delay_s)

    async def _result(self, method: str, path: str, request: dict[str, Any]) -> httpx2.Response | ClientError:
        """What one request brings. Raises BadAnswer."""
        try:
            response = await self._http.request(method, path, **request)
        except httpx2.TransportError as failure:
            error = self._cannot_connect(str(failure) or type(failure).__name__)
            error.__cause__ = failure
            return error
        except (httpx2.RequestError, httpx2.StreamError) as failure:
            raise BadAnswer(str(failure)) from failure
        return response if response.is_success else error_of(response)

    async def _note_response(self, response: httpx2.Response) -> None:
        """A proxy before an address without a front-end has responses as well, of 5xx."""
        self._has_response |= not response.is_server_error

    def _cannot_connect(self, reason: str) -> CannotConnect:
        return CannotConnect(reason, address=shown_address(self._http.base_url))
