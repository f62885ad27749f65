"""Django: our paths go to our app, all others to Django, which has a view of one stream."""

from __future__ import annotations

from typing import Any

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

from broadcaster.django import stream_response
from tests.support.apps.hosts import broadcaster, owns

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="of tests")
django.setup()


def _mine(_: HttpRequest, id: str) -> HttpResponse:
    return HttpResponse(f"a page of Django about {id}")


async def _answer(request: Any, id: str) -> Any:
    return await stream_response(broadcaster, id, request, wait_s=5)


urlpatterns = [path("mine/<str:id>", _mine), path("answers/<str:id>", _answer)]
_django = get_asgi_application()
_llm = broadcaster.asgi(prefix="/llm", can_watch=owns)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """What the server serves."""
    await (_llm if scope.get("path", "").startswith("/llm/") else _django)(scope, receive, send)
