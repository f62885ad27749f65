"""Django: our paths go to our app, all others to Django."""

from __future__ import annotations

from typing import Any

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

from tests.support.apps.hosts import broadcaster, owns

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="of tests")
django.setup()


def _mine(_: HttpRequest, id: str) -> HttpResponse:
    return HttpResponse(f"a page of Django about {id}")


urlpatterns = [path("mine/<str:id>", _mine)]
_django = get_asgi_application()
_llm = broadcaster.asgi(prefix="/llm", can_watch=owns)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """What the server serves."""
    await (_llm if scope.get("path", "").startswith("/llm/") else _django)(scope, receive, send)
