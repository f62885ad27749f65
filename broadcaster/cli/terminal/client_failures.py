"""What a failed call to a front-end prints: one line with a remedy. Other failures: failures.py."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from broadcaster.cli.terminal.exit_codes import CommandFailed, ExitCode
from broadcaster.cli.terminal.usage import quoted
from broadcaster.client import BadAnswer, CannotConnect, ClientError, GaveUp, StreamClosed
from broadcaster.core.access.masking import masked

REMEDIES: Final = {
    # the request
    "bad_cursor": "copy the id of an entry, as `broadcaster tail --json` prints it",
    "unknown_model": "choose another --model, or add a route with BROADCASTER_ROUTES",
    "unknown_stream": "see what there is with: broadcaster ls --all",
    "unknown_dialect": "the front-end is of another version than this command: update one of them",
    "bad_frame": "leave control characters out of the id",
    "body_too_large": "send less at once, or raise BROADCASTER_MAX_BODY_BYTES where the front-end runs",
    "too_many_values": "split the request, or raise BROADCASTER_MAX_BODY_VALUES where the front-end runs",
    "metadata_too_large": "send less metadata, or raise BROADCASTER_MAX_METADATA_BYTES where the front-end runs",
    "answer_unsent": "it was not lost: `broadcaster show ID` reads it",
    "tenant_limit": "retry later, or raise the setting that the error names",
    "idempotency_mismatch": "use another key for another request",
    "stream_exists": "choose another id, or continue the existing stream",
    "stream_closed": "the stream takes no more events: begin one with another id",
    "stream_replaced": "another program has replaced the stream: begin a new one",
    "stream_full": "begin a new stream, or create it with on_full: trim",
    "event_too_large": "send it in parts",
    "rate_limited": "send less at once",
    "budget_spent": "wait until midnight (UTC), or raise the key's tokens_per_day: broadcaster key add",
    "webhook_not_allowed": "list its host in BROADCASTER_WEBHOOK_HOSTS where the front-end runs",
    # the caller and its access
    "unauthorized": "set BROADCASTER_API_KEY to a key of this front-end",
    "token_invalid": "get a new token from the service that issued it, or use a key",
    "token_expired": "get a new token: broadcaster token STREAM",
    "token_revoked": "get a new token: broadcaster token STREAM",
    "tokens_off": "set BROADCASTER_TOKEN_KEYS where the front-ends run (docs/tokens.md)",
    "forbidden": "set BROADCASTER_API_KEY to a key that may do this",
    "forbidden_host": "without keys a front-end serves only its own machine: use http://127.0.0.1 and its port",
    "forbidden_origin": "without keys a front-end serves only its own machine: remove the Origin header on the way",
    "not_found": "check the id, which has no slash, and --url and BROADCASTER_URL: the path before /v1 is wrong, or "
    "the front-end is older",
    "method_not_allowed": "check --url and BROADCASTER_URL: the front-end is older, or a proxy stands between",
    "unsupported_media_type": "check the proxies: the content-type header was changed on the way",
    # the server
    "internal_error": "see the front-end's log, which has the error",
    "setup_error": "check the set-up with: broadcaster doctor",
    "provider_failed": "retry; check the providers with: broadcaster doctor",
    "busy": "retry in a moment, or run another front-end: broadcaster serve",
    "queue_full": "retry in a moment, or run another worker: broadcaster worker",
    "log_unavailable": "retry in a moment; check Redis with: broadcaster doctor",
    "stop_not_durable": "repeat it in a moment; check Redis with: broadcaster doctor",
    "stop_pending": "repeat it in a moment",
}
# Their detail names the fault and its place, so a general remedy adds nothing; or no client of ours can cause them.
NEEDS_NO_REMEDY: Final = frozenset(
    {
        *("invalid_request", "invalid_event", "malformed_http", "head_too_large", "request_timeout"),
        *("websocket_not_served", "websocket_required"),
        # of Durable Streams, under /ds/
        *("content_type_mismatch", "not_supported", "offset_gone"),
        *("producer_fenced", "producer_gap", "sequence_conflict"),
    }
)


_FIELD: Final = re.compile(r"\bbody #/(?P<name>\w+)(?P<place>[^:\s]*): ")


def client_failure(
    error: ClientError, *, address: str, stream: str | None = None, given: Mapping[str, str] | None = None
) -> CommandFailed:
    """The text and the exit code of a failed call to the front-end at ``address``.

    It names the stream that is unknown, and a field of the request as it was ``given`` on the command line.
    """
    address = masked(address)
    if isinstance(error, CannotConnect):
        text = f"cannot connect to {address} ({error.reason}); start one with: broadcaster up, or set --url"
        return CommandFailed(text, ExitCode.CANNOT_CONNECT)
    if isinstance(error, GaveUp):
        return CommandFailed(f"lost {address}: {error.detail}", ExitCode.CANNOT_CONNECT)
    if isinstance(error, BadAnswer):
        return CommandFailed(f"{address}: {error.detail}; check --url and BROADCASTER_URL", ExitCode.FAILED)
    if isinstance(error, StreamClosed):
        return CommandFailed(error.detail, ExitCode.FAILED)
    remedy = REMEDIES.get(error.code) or ("retry in a moment" if error.retry else None)
    detail = _FIELD.sub(lambda found: _as_given(found, given or {}), error.detail)
    culprit = f"{quoted(stream)}: " if stream is not None and error.code == "unknown_stream" else ""
    return CommandFailed(f"{error.code}: {culprit}{detail}" + (f"; {remedy}" if remedy else ""), ExitCode.FAILED)


def _as_given(found: re.Match[str], given: Mapping[str, str]) -> str:
    place = f" at {found['place']}" if found["place"] else ""
    return f"{given[found['name']]}{place}: " if found["name"] in given else found[0]
