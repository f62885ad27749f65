"""Ctrl-C while a program imports its modules or ends: the signal ends the process at once, without a traceback.

Shells see the same as from any program that Ctrl-C ends. Modules are imported for tenths of a second, in which Python
would raise KeyboardInterrupt from the middle of another package's code.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

from broadcaster.process.interrupt_end import let_interrupts_end
from broadcaster.process.start import uncollected


@contextmanager
def raising_interrupts() -> Iterator[None]:
    """After ``let_interrupts_end``: Ctrl-C raises KeyboardInterrupt while the block runs."""
    is_let = signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    if is_let:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        if is_let:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


def import_undisturbed(name: str) -> ModuleType:
    """The module of a server, imported without collections (start.py).

    Ctrl-C ends the process during the import also where it otherwise raises KeyboardInterrupt.
    """
    if threading.current_thread() is not threading.main_thread():  # another one cannot change what a signal does
        return _import(name)
    before = signal.getsignal(signal.SIGINT)
    let_interrupts_end()
    try:
        return _import(name)
    finally:
        signal.signal(signal.SIGINT, before)


def _import(name: str) -> ModuleType:
    with uncollected():
        return import_module(name)
