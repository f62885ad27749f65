"""Requests count under the surface of their route, from a closed list."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi import FastAPI

from broadcaster.web.guards.request_counts import surface_of
from broadcaster.web.route_table import MountedRoute

OWN = {"generations", "streams", "tokens", "usage", "admin", "health"}
TOKENS_OF_A_STREAM = "/v1/streams/{stream_id}/tokens"


def routes_of(app: FastAPI) -> Iterator[MountedRoute]:
    """The routes of the API; the page's files are none."""
    return (route for route in app.routes if isinstance(route, MountedRoute))


def test_only_embeddings_and_legacy_completions_count_as_openai(app: FastAPI) -> None:
    counted = {route.path for route in routes_of(app) if surface_of(route.path) == "openai"}
    assert counted == {"/v1/completions", "/v1/embeddings"}


def test_a_route_of_ours_counts_under_the_name_that_its_log_lines_have(app: FastAPI) -> None:
    own = {route.path: route.surface for route in routes_of(app) if route.surface in OWN}
    assert set(own.values()) == OWN
    assert own.pop(TOKENS_OF_A_STREAM) == "tokens"
    assert surface_of(TOKENS_OF_A_STREAM) == "streams"
    assert {path: surface_of(path) for path in own} == own


@pytest.mark.parametrize(
    ("path", "surface"),
    [("/v1/demo/kill-worker", "demo"), ("/v1/files", "openai"), ("/ds/a", "durable-streams"), ("/nothing", "other")],
)
def test_a_path_counts_under_its_beginning(path: str, surface: str) -> None:
    assert surface_of(path) == surface
