"""Whole processes: their end, their death, and their children."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.log.held_log import held, numbers
from tests.support.log.valkey import ValkeyServer

FINISH = {"type": "finish"}
# Start of an interpreter on a busy machine, and the time limit of the publisher.
JOB_S = 60.0


def run(name: str, url: str, stream_id: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.support.apps.sync_jobs", name, url, stream_id]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=JOB_S)


def test_a_script_that_just_ends_has_sent_everything_and_its_feed_ends_with_abort(
    server: ValkeyServer,
) -> None:
    # By name, so that the end of the interpreter meets a name that must be looked up.
    job = run("ends_without_closing", server.url.replace("127.0.0.1", "localhost"), "job-1")
    assert (job.returncode, job.stderr, job.stdout) == (0, "", "")
    events = held(server.url, "job-1")
    assert numbers(events) == list(range(300))
    assert events[-1] == {"type": "abort", "reason": "publisher_closed"}


def test_a_job_that_fails_ends_its_feed_with_error_and_raises_its_own_exception(redis_url: str, stream_id: str) -> None:
    job = run("fails", redis_url, stream_id)
    assert job.returncode == 1
    assert "RuntimeError: the job failed" in job.stderr
    assert held(redis_url, stream_id)[-1]["code"] == "publisher_failed"


@pytest.mark.parametrize("name", ["ends_while_redis_is_away", "has_left_while_redis_is_away"])
def test_a_process_ends_in_time_and_well_while_redis_is_away(server: ValkeyServer, name: str) -> None:
    server.kill()
    job = run(name, server.url, "job-1")
    assert (job.returncode, job.stdout) == (0, "")
    assert "feed_events_lost" in job.stderr


def test_a_killed_process_has_doubled_nothing_and_left_no_hole(redis_url: str, stream_id: str) -> None:
    command = [sys.executable, "-m", "tests.support.apps.sync_jobs", "goes_on", redis_url, stream_id]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as job:
        assert job.stdout is not None
        flushed = [int(job.stdout.readline()) for _ in range(4)][-1]
        job.kill()
    sent = numbers(held(redis_url, stream_id))
    assert len(sent) >= flushed
    assert sent == list(range(len(sent)))


def test_forked_children_write_for_themselves_and_the_parents_feed_ends_once_with_the_parent(
    redis_url: str, stream_id: str
) -> None:
    job = run("forks", redis_url, stream_id)
    assert (job.returncode, job.stdout, job.stderr) == (0, "[0, 0, 0]\n", "")
    events = held(redis_url, stream_id)
    sent = numbers(events)
    assert len(sent) == 600
    for name, count in (("parent", 300), ("child-0", 100), ("child-1", 100), ("child-2", 100)):
        assert [number for of, number in sent if of == name] == list(range(count))
    assert events[-1] == FINISH
    for child in range(3):
        assert held(redis_url, f"{stream_id}-{child}") == [{"type": "data-n", "data": child}, FINISH]


def test_children_of_multiprocessing_publish_with_the_publisher_they_were_given(redis_url: str, stream_id: str) -> None:
    job = run("runs_children", redis_url, stream_id)
    assert (job.returncode, job.stderr) == (0, "")
    assert held(redis_url, stream_id) == [
        {"type": "data-n", "data": "parent"},
        {"type": "data-n", "data": "parent again"},
        FINISH,
    ]
    for number in range(2):
        assert numbers(held(redis_url, f"{stream_id}-{number}")) == list(range(50))
