"""A Django site whose long jobs show their progress live, each to its own user.

    uvicorn examples.django_reports.reports:application

A view starts a report in a thread of its own, and the thread reports with ``broadcaster.sync``. The page watches with
an EventSource below ``/live``, where Django's session decides. In a site of yours the settings are in a module of their
own, and a job queue runs the reports.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from typing import Any, Final

import django
from django.conf import settings
from django.contrib.sessions.backends.signed_cookies import SessionStore
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.template import engines
from django.urls import path
from django.views.decorators.http import require_POST
from fastapi import Request

from broadcaster import Broadcaster, sync

REDIS_URL: Final = os.environ["BROADCASTER_REDIS_URL"]
SECONDS_PER_PAGE: Final = float(os.environ.get("SECONDS_PER_PAGE", "0.2"))
PAGES: Final = 20

settings.configure(
    ROOT_URLCONF=__name__,
    SECRET_KEY=os.environ.get("SECRET_KEY", "only for this example"),
    ALLOWED_HOSTS=["localhost", "127.0.0.1"],
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware", "django.middleware.csrf.CsrfViewMiddleware"],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
)
django.setup()

publisher = sync.Publisher.from_url(REDIS_URL, timeout_s=2.0)
broadcaster = Broadcaster.from_url(REDIS_URL)

PAGE: Final = """<!doctype html>
<title>Reports</title>
<form method="post" action="/login">
  {% csrf_token %}<input name="user" value="{{ user }}"><button>Sign in</button>
</form>
{% if user %}
<form id="start">{% csrf_token %}<button>Write a report</button></form>
<progress max="1" value="0"></progress>
<p id="line"></p>
<script>
document.getElementById("start").onsubmit = async (event) => {
  event.preventDefault();
  const answer = await fetch("/reports", { method: "POST", body: new FormData(event.target) });
  const source = new EventSource((await answer.json()).events_url);
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) document.getElementById("line").textContent = "No longer stored.";
  };
  source.onmessage = ({ data }) => {
    const { type, data: at } = JSON.parse(data);
    if (type === "data-progress") {
      document.querySelector("progress").value = at.done / at.total;
      document.getElementById("line").textContent = at.message;
    } else if (["finish", "error", "abort"].includes(type)) {
      document.getElementById("line").textContent = type === "finish" ? "The report is ready." : "The report failed.";
      source.close();
    }
  };
};
</script>{% endif %}"""


def page(request: HttpRequest) -> HttpResponse:
    """The one page of the site."""
    user = request.session.get("user", "")
    return HttpResponse(engines["django"].from_string(PAGE).render({"user": user}, request))


def login(request: HttpRequest) -> HttpResponse:
    """Sign in under any name: your site checks a password here."""
    request.session["user"] = request.POST["user"]
    return redirect("/")


def start(request: HttpRequest) -> HttpResponse:
    """Start a report. It continues if its user leaves."""
    user = request.session.get("user")
    if user is None:
        return JsonResponse({"error": "sign in first"}, status=401)
    id = f"report:{uuid.uuid4().hex}"
    owners[id] = user
    threading.Thread(target=write_report, args=(id, user), daemon=True).start()
    return JsonResponse({"events_url": f"/live/v1/streams/{id}/events?wait_s=5"}, status=202)


def write_report(id: str, user: str) -> None:
    """The job. Left by an exception, the block ends the feed with an error that names no detail."""
    with publisher.feed(id, metadata={"user": user}, lease_s=5) as feed:
        for number in range(1, PAGES + 1):
            time.sleep(SECONDS_PER_PAGE)
            feed.progress(number, PAGES, f"page {number} of {PAGES}")


owners: dict[str, str] = {}
"""Report → its user; a table of your database."""


def can_watch(stream_id: str, request: Request) -> bool:
    """A user may watch their own reports. The session's cookie is signed, so it says which user this is."""
    user = SessionStore(request.cookies.get(settings.SESSION_COOKIE_NAME, "")).get("user")
    return user is not None and owners.get(stream_id) == user


# Django checks the CSRF token of a POST alone, so no GET may change anything.
urlpatterns = [path("", page), path("login", require_POST(login)), path("reports", require_POST(start))]
site = get_asgi_application()
live = broadcaster.asgi(prefix="/live", can_watch=can_watch)


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Live paths are ours, all others are Django's."""
    await (live if scope.get("path", "").startswith("/live/") else site)(scope, receive, send)
