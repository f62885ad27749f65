"""The console page, and the API documentation: a few static files out of the package, held in memory once one was read.

The documentation is Swagger UI, in the release that tests/web/test_docs_page.py pins, and shows ``/openapi.json``.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final, NamedTuple

from fastapi import APIRouter, HTTPException, Request, Response

# Not from the system: a wrong registry entry would make a browser refuse the modules.
_MEDIA_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}

# No inline script or style, no foreign host, no frame around the page, no form or base that leads elsewhere.
POLICY: Final = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"


_CLIENT_FOLDER: Final = "console/client"
_END_OF_HEAD: Final = b"</head>"


class _File(NamedTuple):
    content: bytes
    media_type: str
    etag: str


class StaticFiles:
    """One folder below ``broadcaster/web`` with those below it; ``policy`` is its Content-Security-Policy.

    ``head``: tags that are added to the head of its pages.
    """

    def __init__(self, folder: str, *, policy: str = POLICY, head: str = "") -> None:
        self._folder = folder
        self._head = head.encode()
        self._policy = policy

    async def page(self, request: Request) -> Response:
        """The folder's page."""
        return await self.file("index.html", request)

    async def file(self, name: str, request: Request) -> Response:
        """The file, or 304. Raises HTTPException 404."""
        file = (await asyncio.to_thread(_load, self._folder, head=self._head)).get(name)
        if file is None:
            raise HTTPException(404)
        headers = {
            # Revalidate each time (304 without a change): a new server never serves an old page.
            "cache-control": "no-cache",
            "etag": file.etag,
            "content-security-policy": self._policy,
            "referrer-policy": "no-referrer",
        }
        if file.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(file.content, media_type=file.media_type, headers=headers)


@cache
def _load(folder: str, *, head: bytes) -> Mapping[str, _File]:
    """Every file whose type is in the table, by its path below the folder."""
    files = {}
    for name, path in _below(_place_of(folder)):
        media_type = _MEDIA_TYPES.get("." + name.rpartition(".")[2])
        if media_type is not None:
            content = path.read_bytes().replace(_END_OF_HEAD, head + _END_OF_HEAD, 1)
            files[name] = _File(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:16]}"')
    return files


def _below(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, Traversable]]:
    for path in folder.iterdir():
        if path.is_dir():
            yield from _below(path, f"{prefix}{path.name}/")
        else:
            yield prefix + path.name, path


def _place_of(folder: str) -> Traversable:
    """The JavaScript client is in the package only where that was built; in a checkout it is at its own place."""
    place = resources.files("broadcaster.web") / folder
    return place if place.is_dir() or folder != _CLIENT_FOLDER else Path(__file__).parents[3] / "clients/js/src"


_CONSOLE: Final = StaticFiles("console")
_CLIENT: Final = StaticFiles(_CLIENT_FOLDER)
# Swagger UI's style sheet holds its icons as data.
_DOCS: Final = StaticFiles("docs", policy=f"{POLICY}; img-src 'self' data:")

_METHODS: Final = ["GET", "HEAD"]

router = APIRouter(include_in_schema=False)
router.add_api_route("/", _CONSOLE.page, methods=_METHODS)
router.add_api_route("/console/client/{name}", _CLIENT.file, methods=_METHODS)
router.add_api_route("/console/{name:path}", _CONSOLE.file, methods=_METHODS)
router.add_api_route("/docs", _DOCS.page, methods=_METHODS)
router.add_api_route("/docs/{name}", _DOCS.file, methods=_METHODS)
