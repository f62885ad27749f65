"""The console page, and the API documentation: a few static files out of the package.

The documentation is Swagger UI, in the release that tests/web/test_docs_page.py pins, and shows ``/openapi.json``.
"""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request, Response

from broadcaster.web.static_files import POLICY, StaticFiles

_CONSOLE: Final = StaticFiles("console")
# Swagger UI's style sheet holds its icons as data.
_DOCS: Final = StaticFiles("docs", policy=f"{POLICY}; img-src 'self' data:")

router = APIRouter(include_in_schema=False)


@router.api_route("/", methods=["GET", "HEAD"])
async def console(request: Request) -> Response:
    """The page."""
    return _CONSOLE.serve("index.html", request)


@router.api_route("/console/{name}", methods=["GET", "HEAD"])
async def console_file(name: str, request: Request) -> Response:
    """A file that the page loads."""
    return _CONSOLE.serve(name, request)


@router.api_route("/docs", methods=["GET", "HEAD"])
async def docs(request: Request) -> Response:
    """The API documentation."""
    return _DOCS.serve("index.html", request)


@router.api_route("/docs/{name}", methods=["GET", "HEAD"])
async def docs_file(name: str, request: Request) -> Response:
    """A file that the documentation loads."""
    return _DOCS.serve(name, request)
