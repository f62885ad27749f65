"""Request bodies, read strictly: what two readers could understand differently is refused.

1. A body is JSON in UTF-8 (RFC 8259, 8.1), without NaN and Infinity, and no object names a member twice: which of the
   two counts would depend on the reader, and a proxy that checks requests may be another one than we are (RFC 7493,
   2.3).
2. It is named ``application/json``, and not compressed. ``text/plain`` and forms cross origins without a preflight and
   with the user's cookies; ``application/json`` does not (CSRF).
3. A POST without a body and a media type crosses them too: a page of another origin must name ``application/json``,
   unless the operator listed its origin (cors.py).
4. A body has a bound, also when its length is not announced.
5. The values in it have one too: they are counted in the text, before any of them is built. 4 MB of empty objects
   would block the loop for half a minute, and take 2 GB.
6. What cannot be written as JSON (NaN, Infinity, lone surrogates, deep nesting) is refused here, once for
   all routes: it must not reach the log.
7. A route that takes any media type (Durable Streams) takes it as it is, not compressed. A page can send ``text/plain``
   across origins, so there no POST of a page of another origin is taken.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

import msgspec
from fastapi import Request
from starlette.datastructures import Headers

from broadcaster.core.requests.json_values import MAX_LEVELS, count_values, is_deeper
from broadcaster.core.requests.publishing import UNWRITABLE
from broadcaster.errors import BodyTooLarge, Busy, InvalidInput, TooManyValues
from broadcaster.observability.limits import limit_reached
from broadcaster.web.documents.problem_table import UnsupportedMediaType
from broadcaster.web.documents.problems import BodyRefused, InvalidRequest, RequestFault
from broadcaster.web.guards.cors import is_allowed_origin
from broadcaster.web.guards.json_ledger import JsonHold

# A length with more digits never comes from a server that parses it; what is received is counted anyway.
_LENGTH: Final = re.compile(r"[0-9]{1,18}", re.ASCII)
_BYTES_WANTED: Final = (
    "send the body without a content-encoding, and not from a page of another origin that "
    "BROADCASTER_CORS_ORIGINS does not list"
)
_JSON_WANTED: Final = "send the body with content-type: application/json, and without a content-encoding"
# Only an escape can make a surrogate: the text itself is UTF-8.
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
# As many as the largest float has. Reading and writing a longer one takes time by the square of its length.
_MAX_DIGITS: Final = 310
_METHODS_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})


def decode_body(body: bytes, *, max_values: int) -> Any:
    """The body's value.

    Raises TooManyValues (rule 5), and InvalidRequest when it (1) is not UTF-8 or no JSON, (2) has NaN or Infinity,
    (3) names a member twice, (4) is nested too deeply, (5) has a number too long to be read, or (6) a lone surrogate.
    """
    if count_values(body, most=max_values) > max_values:
        limit_reached("MAX_BODY_VALUES")
        raise TooManyValues(f"the body holds more than {max_values} JSON values (MAX_BODY_VALUES)")
    try:
        value = json.loads(
            body.decode(),
            object_pairs_hook=_members,
            parse_constant=_refuse_constant,
            parse_float=_number,
            parse_int=_integer,
        )
    except UnicodeDecodeError as error:
        raise _invalid(f"not UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise _invalid("nested too deeply") from None
    except json.JSONDecodeError as error:
        raise _invalid(f"not JSON: {error.msg} at character {error.pos}") from None
    # The elements of an outer array are events, each with levels of its own.
    if is_deeper(body, MAX_LEVELS + isinstance(value, list)):
        raise _invalid(UNWRITABLE)
    if _SURROGATE.search(body) is not None:
        try:
            msgspec.json.encode(value)
        except UnicodeEncodeError:
            raise _invalid(UNWRITABLE) from None
    return value


def check_head(request: Request, *, max_bytes: int, takes_bytes: bool = False) -> None:
    """Check the body that the head announces. Raises UnsupportedMediaType (rules 2, 3), BodyTooLarge (rule 4).

    ``takes_bytes``: the route takes any media type.
    """
    headers = request.headers
    if request.method in _METHODS_WITH_BODY and not (_is_bytes(request) if takes_bytes else _is_json(request)):
        raise UnsupportedMediaType(_BYTES_WANTED if takes_bytes else _JSON_WANTED)
    announced = headers.get("content-length", "0")
    if _LENGTH.fullmatch(announced) and int(announced) > max_bytes:
        raise _too_large(max_bytes)


class StrictRequest(Request):
    """The request as its route reads it: a body is bounded, counted as it comes, and read by `decode_body`."""

    def __init__(self, request: Request, hold: JsonHold, *, max_bytes: int, max_values: int) -> None:
        super().__init__(request.scope, request.receive)
        self._hold = hold
        self._max_bytes = max_bytes
        self._max_values = max_values

    async def json(self) -> Any:
        """The body's value. Raises BodyRefused.

        FastAPI has an answer to json.JSONDecodeError, with the whole body in a cycle that only a collection frees.
        """
        body = await self.body()
        await self._hold.take_turn(len(body))
        try:
            value = decode_body(body, max_values=self._max_values)
        except InvalidInput as error:
            raise BodyRefused(error) from error
        await self._hold.take_turn(len(body))  # the schema reads the value in a turn of its own
        return value

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes. Raises BodyRefused where the bound is crossed."""
        received = 0
        async for chunk in super().stream():
            received += len(chunk)
            if received > self._max_bytes:
                raise BodyRefused(_too_large(self._max_bytes))
            try:
                self._hold.receive(len(chunk))
            except Busy as refusal:
                raise BodyRefused(refusal) from refusal
            yield chunk


def _is_bytes(request: Request) -> bool:
    """Rule 7."""
    return _is_plain(request.headers) and _is_sent_by_a_known_page(request)


def _is_sent_by_a_known_page(request: Request) -> bool:
    """Whether no page of another origin has sent it, unless the operator listed that origin; True but for POST."""
    return request.method != "POST" or is_allowed_origin(request.scope) or not _is_of_another_origin(request.headers)


def _is_plain(headers: Headers) -> bool:
    return headers.get("content-encoding", "identity").strip().lower() in ("identity", "")


def _is_json(request: Request) -> bool:
    headers = request.headers
    if not _is_plain(headers):
        return False
    kind = headers.get("content-type")
    if kind is not None:
        return kind.partition(";")[0].strip().lower() == "application/json"
    if "transfer-encoding" in headers or headers.get("content-length", "0").strip() != "0":
        return False
    return _is_sent_by_a_known_page(request)


def _is_of_another_origin(headers: Headers) -> bool:
    """Whether a browser sent it for a page of another origin. Older browsers send an Origin, other clients neither.

    https://www.w3.org/TR/fetch-metadata/ : ``Sec-Fetch-Site`` cannot be set by a page.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    if origin is None:
        return False
    try:
        return urlsplit(origin).netloc.lower() != headers.get("host", "").lower()
    except ValueError:
        return True


def _too_large(max_bytes: int) -> BodyTooLarge:
    limit_reached("MAX_BODY_BYTES")
    return BodyTooLarge(f"a body has at most {max_bytes} bytes")


def _members(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise _invalid("an object names the same member twice")
    return members


def _number(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise _invalid(UNWRITABLE)
    return number


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise _invalid("a number has too many digits")
    return int(text)


def _refuse_constant(_: str) -> NoReturn:
    raise _invalid("NaN and Infinity are not JSON")


def _invalid(detail: str) -> InvalidRequest:
    return InvalidRequest.of(RequestFault("body", "#", detail))
