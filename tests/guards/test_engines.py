"""What the second engine runs: whatever depends on the server, and one test of each surface and each process."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

import pytest

from tests.support.engine import MARK, SERVER_FIXTURES, TESTS, WHOLE_ROOMS, is_in_whole_room, may_run, meets_redis

# Every way in which tests come by a server.
STARTERS: Final = {
    "ValkeyServer",
    "start_valkey",
    "EmbeddedServer",
    "find_server",
    "server_binary",
    "open_stack",
    "Stack",
}
WITHOUT_SERVER: Final = {"unpaced"}
# Persistence, replication, limits and users: a test that sets one of them may end otherwise on another server.
SETS_UP_A_SERVER: Final = re.compile(
    r"config_set\(|appendonly=True|\.(?:save|bgsave)\(\)|\"(?:REPLICAOF|CLIENT|ACL|DEBUG|CONFIG)\""
)
# One test of each surface and each process, over real processes.
SMOKE: Final = {
    "every client, from the beginning and late": (
        "compat/test_product.py",
        "test_a_late_joiner_at_another_front_end_ends_with_the_same",
    ),
    "a lost worker": (
        "faults/workers/test_worker_loss.py",
        "test_a_killed_workers_generation_is_taken_over_or_ended_as_its_caller_chose_in_one_connection",
    ),
    "a stop": (
        "e2e/test_workers.py",
        "test_a_stop_usually_reaches_the_provider_in_under_100_ms_and_keeps_the_partial_answer",
    ),
    "a feed": (
        "e2e/test_feeds.py",
        "test_writers_on_two_front_ends_are_one_order_for_viewers_of_both",
    ),
    "a webhook": (
        "e2e/test_webhooks.py",
        "test_a_caller_that_does_not_watch_soon_receives_the_whole_answer_by_webhook",
    ),
    "an embedded server": (
        "e2e/deployment/test_up.py",
        "test_up_killed_takes_its_redis_and_workers_with_it_and_the_next_up_goes_on",
    ),
    "the doctor": (
        "e2e/test_cli.py",
        "test_the_doctor_finds_a_running_stack_well_and_sees_its_worker_die",
    ),
    "the library": (
        "library/test_outages.py",
        "test_redis_killed_and_restarted_under_writer_and_reader",
    ),
    "the sync publisher": (
        "sync/test_outages.py",
        "test_while_redis_is_killed_the_job_goes_on_and_all_of_it_comes_when_redis_is_back",
    ),
    "the server that we deploy": (
        "deploy/test_valkey.py",
        "test_an_acknowledged_write_is_there_after_the_server_was_killed",
    ),
}


def test_every_module_of_log_and_topologies_that_starts_a_server_runs_on_the_second_engine() -> None:
    modules = [path for room in WHOLE_ROOMS for path in (TESTS / room).rglob("test_*.py") if STARTERS & names_in(path)]
    assert modules
    assert [path for path in modules if not (meets_redis(path) and may_run(path))] == []


def test_the_fixtures_of_all_tests_that_bring_a_server_are_known() -> None:
    """In log and topologies, a test that asks for one of them is run; a new one must be named."""
    tree = ast.parse((TESTS / "conftest.py").read_text("utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    fixtures = {each.name for each in functions if any("fixture" in ast.unparse(it) for it in each.decorator_list)}
    assert {each for each in fixtures if not each.startswith("_")} == SERVER_FIXTURES | WITHOUT_SERVER


def test_every_module_that_sets_up_a_server_in_its_own_way_has_a_test_on_the_second_engine() -> None:
    elsewhere = [path for path in TESTS.rglob("test_*.py") if not is_in_whole_room(path) and path != Path(__file__)]
    setting_up = [path for path in elsewhere if SETS_UP_A_SERVER.search(path.read_text("utf-8"))]
    assert len(setting_up) > 8
    assert [path for path in setting_up if not may_run(path)] == []


@pytest.mark.parametrize("what", SMOKE)
def test_the_second_engine_runs_one_test_of_each_surface_and_each_process(what: str) -> None:
    path, name = SMOKE[what]
    assert name in marked_tests(TESTS / path)


def marked_tests(path: Path) -> set[str]:
    """The tests of this module outside log and topologies that the second engine runs."""
    tree = ast.parse(path.read_text("utf-8"))
    tests = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    is_whole = any(isinstance(node, ast.Assign) and f"mark.{MARK}" in ast.unparse(node) for node in tree.body)
    return {
        each.name
        for each in tests
        if each.name.startswith("test_") and (is_whole or any(MARK in ast.unparse(it) for it in each.decorator_list))
    }


def names_in(path: Path) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Name)}
