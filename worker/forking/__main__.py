"""``python -P -m worker.forking``: forks workers on request, in milliseconds instead of the seconds of their imports.

Rules
1. A request is a line of JSON on stdin, and each gets one line on stdout. ``{"fork": {"environment": …, "path": […],
   "output": FILE}}`` forks a worker with this environment and these further entries of ``sys.path``, and gets its
   process id. ``{"kill": PID}`` kills one and waits until it is gone; it gets how the worker ended, as an exit code or
   minus the number of a signal.
2. The end of stdin kills every worker, and ends this process.
3. This process runs no thread and no event loop, so that a fork inherits neither.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from importlib import import_module
from typing import Any, Final, NoReturn

from broadcaster.process.lifeline import die_with_parent

IMPORTED: Final = (
    "worker.main",
    "worker.providers.anthropic",
    "worker.providers.openai",
    "anthropic.resources.messages",
    "openai.resources.chat",
    "openai.resources.responses",
)
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


def run_worker(request: dict[str, Any]) -> NoReturn:
    """Be a worker, in a process that was forked for it."""
    code = 1
    try:
        die_with_parent()
        for number, target in ((os.open(os.devnull, os.O_RDONLY), 0), (os.open(request["output"], _NEW_FILE), 1)):
            os.dup2(number, target)
            os.close(number)
        os.dup2(1, 2)
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.path += [entry for entry in request["path"] if entry not in sys.path]
        import_module("worker.main").main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # what was left to do at the end of the process that forked it is not this one's


def main() -> None:
    """Serve requests until the end of stdin."""
    for name in IMPORTED:
        import_module(name)
    gc.collect()
    gc.freeze()
    workers: set[int] = set()
    while line := sys.stdin.readline():
        request = json.loads(line)
        if "fork" in request:
            pid = os.fork()
            if pid == 0:
                run_worker(request["fork"])
            workers.add(pid)
            _reply(pid)
        else:
            workers.remove(request["kill"])
            _reply(_end(request["kill"]))
    for pid in workers:
        _end(pid)


def _end(pid: int) -> int:
    """Not waited for before, so that the process id is still the worker's."""
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _reply(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
