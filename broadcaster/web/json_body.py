"""Request bodies, read strictly: what two readers could understand differently is refused.

1. A body is JSON in UTF-8 (RFC 8259, 8.1), without NaN and Infinity, and no object names a member twice: which of the
   two counts would depend on the reader, and a proxy that checks requests may be another one than we are (RFC 7493,
   2.3).
2. It is named ``application/json``, and not compressed. ``text/plain`` and forms cross origins without a preflight and
   with the user's cookies; ``application/json`` does not (CSRF).
3. A POST without a body and a media type crosses them too: a page of another origin must name ``application/json``.
4. A body has a bound, also when its length is not announced.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import Receive, Scope

from broadcaster.web.problems import BodyRefused, BodyTooLarge, Fault, InvalidRequest, UnsupportedMediaType

# A length with more digits never comes from a server that parses it; what is received is counted anyway.
_LENGTH: Final = re.compile(r"[0-9]{1,18}", re.ASCII)
_JSON_WANTED: Final = "send the body with content-type: application/json, and without a content-encoding"
_METHODS_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})


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


def check_head(headers: Headers, *, method: str, max_bytes: int) -> None:
    """What a request's head says of its body. Raises UnsupportedMediaType (rules 2, 3), BodyTooLarge (rule 4)."""
    if method in _METHODS_WITH_BODY and not _is_json(headers, method=method):
        raise UnsupportedMediaType(_JSON_WANTED)
    announced = headers.get("content-length", "0")
    if _LENGTH.fullmatch(announced) and int(announced) > max_bytes:
        raise _too_large(max_bytes)


class StrictRequest(Request):
    """A request whose body is bounded, and read by `decode_body`."""

    def __init__(self, scope: Scope, receive: Receive, *, max_bytes: int) -> None:
        super().__init__(scope, receive)
        self._max_bytes = max_bytes

    async def json(self) -> Any:
        """The body's value. Raises json.JSONDecodeError, which FastAPI takes for its own, and BodyRefused."""
        try:
            return decode_body(await self.body())
        except InvalidRequest as error:
            raise BodyRefused(error) from error

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes. Raises BodyRefused where the bound is crossed."""
        received = 0
        async for chunk in super().stream():
            received += len(chunk)
            if received > self._max_bytes:
                raise BodyRefused(_too_large(self._max_bytes))
            yield chunk


def _is_json(headers: Headers, *, method: str) -> bool:
    if headers.get("content-encoding", "identity").strip().lower() not in ("identity", ""):
        return False
    kind = headers.get("content-type")
    if kind is not None:
        return kind.partition(";")[0].strip().lower() == "application/json"
    if "transfer-encoding" in headers or headers.get("content-length", "0").strip() != "0":
        return False
    return method != "POST" or not _is_of_another_origin(headers)


def _is_of_another_origin(headers: Headers) -> bool:
    """Whether a browser sent it for a page of another origin; browsers too old to say so send an Origin, others none.

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
    return BodyTooLarge(f"a body has at most {max_bytes} bytes")


def _members(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise _invalid("an object names the same member twice")
    return members


def _refuse_constant(_: str) -> NoReturn:
    raise _invalid("NaN and Infinity are not JSON")


def _invalid(detail: str) -> InvalidRequest:
    return InvalidRequest(f"body #: {detail}", faults=[Fault("body", "#", detail)])
