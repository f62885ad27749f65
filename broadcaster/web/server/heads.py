"""The head of a response that a viewer's driver continues: chunked, as uvicorn would write it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from uvicorn.protocols.http.httptools_impl import HEADER_VALUE_RE, STATUS_LINE

# Fields that decide how a response's body is framed, and what follows it.
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding", b"connection"})
_CHUNKED: Final = (b"transfer-encoding", b"chunked")
_CLOSE: Final = (b"connection", b"close")

Fields = Sequence[tuple[bytes, bytes]]


def chunked_head(
    status: int, fields: Iterable[tuple[bytes, bytes]], *, default: Fields, keeps_alive: bool
) -> bytes | None:
    """The head with these fields behind the server's ``default`` ones; None: they frame the body otherwise.

    ``keeps_alive``: the connection stays open after the response. Raises RuntimeError for a control character.
    """
    all_fields = [*default, *fields]
    if not _FRAMING.isdisjoint([name for name, _ in all_fields]):
        return None
    if HEADER_VALUE_RE.search(b"".join([value for _, value in all_fields])):
        raise RuntimeError("a control character in a header")
    all_fields += (_CHUNKED,) if keeps_alive else (_CLOSE, _CHUNKED)
    return STATUS_LINE[status] + b"".join([b"%b: %b\r\n" % field for field in all_fields]) + b"\r\n"
