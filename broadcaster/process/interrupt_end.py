"""Ctrl-C from the first moment of a program: only ``signal`` is imported before a Ctrl-C leaves no traceback."""

import signal


def let_interrupts_end() -> None:
    """From here on Ctrl-C ends this process, unless its parent had it ignored (``nohup``)."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
