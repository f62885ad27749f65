"""Whose output the lines of the log are: a host program's logging, or structlog where it is set up."""

from __future__ import annotations

import subprocess
import sys

import pytest

# A fresh process: whether structlog is set up is a fact of the whole process.
_BEGIN = (
    "import logging, structlog; from broadcaster.observability.logs import get_logger; "
    "log = get_logger('broadcaster.log.tail.tail')\n"
)


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _BEGIN + program], capture_output=True, text=True, timeout=30, check=True
    )


def test_nothing_goes_to_the_stdout_of_a_program_that_has_set_up_nothing():
    output = run("log.warning('redis_unsteady', breaks=3); log.info('quiet')")
    assert output.stdout == ""
    assert output.stderr == "event='redis_unsteady' breaks=3\n"


def test_a_program_s_own_logging_gets_the_lines_under_our_names():
    output = run(
        "logging.basicConfig(format='%(name)s %(levelname)s %(message)s', level=20); log.info('on', stream='s')"
    )
    assert (output.stdout, output.stderr) == ("", "broadcaster.log.tail.tail INFO event='on' stream='s'\n")


@pytest.mark.parametrize("when", ["before", "after"])
def test_structlog_gets_them_where_it_is_set_up_whenever_that_was(when: str):
    set_up = "structlog.configure(processors=[structlog.processors.JSONRenderer()])\n"
    before = "log = get_logger('broadcaster.log.tail.tail')\n" if when == "before" else ""
    output = run(f"{set_up}{before}log.warning('redis_unsteady', breaks=3)")
    assert output.stdout == '{"breaks": 3, "event": "redis_unsteady"}\n'


def test_a_traceback_shows_no_local_variables():
    output = run(
        "def fail(key): raise ValueError('no')\n"
        "try: fail('sk-secret')\n"
        "except ValueError as error: log.error('failed', exc_info=error)"
    )
    assert "ValueError: no" in output.stderr
    assert "sk-secret" not in output.stderr.replace("fail('sk-secret')", "")
