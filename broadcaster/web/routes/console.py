"""The console page: a few static files out of the package, held in memory, served as they are."""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Final, NamedTuple

from fastapi import APIRouter, HTTPException, Request, Response

# Named here, not asked of the system: a wrong registry entry would make a browser refuse the modules.
_MEDIA_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}

# No inline script or style, no foreign host, no frame around the page, no form or base that leads elsewhere.
_POLICY: Final = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"


class _File(NamedTuple):
    content: bytes
    media_type: str
    etag: str


def _load() -> dict[str, _File]:
    """Every file of the console whose type is in the table, by name."""
    files = {}
    for path in (resources.files("broadcaster.web") / "console").iterdir():
        media_type = _MEDIA_TYPES.get("." + path.name.rpartition(".")[2])
        if media_type is not None:
            content = path.read_bytes()
            files[path.name] = _File(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:16]}"')
    return files


_FILES: Final = _load()

router = APIRouter(include_in_schema=False)


@router.api_route("/", methods=["GET", "HEAD"])
async def console(request: Request) -> Response:
    """The page."""
    return _serve("index.html", request)


@router.api_route("/console/{name}", methods=["GET", "HEAD"])
async def console_file(name: str, request: Request) -> Response:
    """What the page loads."""
    return _serve(name, request)


def _serve(name: str, request: Request) -> Response:
    file = _FILES.get(name)
    if file is None:
        raise HTTPException(404)
    headers = {
        # Ask again each time (304 when nothing changed): a new server never meets an old page.
        "cache-control": "no-cache",
        "etag": file.etag,
        "content-security-policy": _POLICY,
        "referrer-policy": "no-referrer",
    }
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)
