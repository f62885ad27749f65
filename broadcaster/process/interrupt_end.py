"""Ctrl-C from the first moment of a program, before any module is imported whose import it could break off.

``_signal`` is the part of ``signal`` that is built into Python: ``signal`` itself imports ``enum`` and ``collections``.
"""

from _signal import SIG_DFL, SIGINT, default_int_handler, getsignal, signal  # type: ignore[import-not-found]


def let_interrupts_end() -> None:
    """From here on Ctrl-C ends this process, unless its parent had it ignored (``nohup``)."""
    if getsignal(SIGINT) is default_int_handler:
        signal(SIGINT, SIG_DFL)
