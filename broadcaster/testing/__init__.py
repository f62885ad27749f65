"""Public helpers for tests: a scripted LLM provider on a real loopback socket.

``wire`` builds the events, a ``Script`` says what happens, ``ScriptedProvider`` serves it and keeps a log of the
requests; with a ``Conversation`` the test answers a live request by hand. ``python -m broadcaster.testing`` serves
paced text to any model.
"""

from broadcaster.testing import wire
from broadcaster.testing.conversation import Conversation
from broadcaster.testing.http1 import ClientGone, Exchange, RecordedRequest
from broadcaster.testing.script import (
    Answer,
    BadJson,
    Cut,
    Gate,
    Hang,
    Headers,
    PacedText,
    Reset,
    Script,
    Send,
    SendCut,
    SendRaw,
    Step,
    Wait,
)
from broadcaster.testing.server import ScriptedProvider

__all__ = [
    "Answer",
    "BadJson",
    "ClientGone",
    "Conversation",
    "Cut",
    "Exchange",
    "Gate",
    "Hang",
    "Headers",
    "PacedText",
    "RecordedRequest",
    "Reset",
    "Script",
    "ScriptedProvider",
    "Send",
    "SendCut",
    "SendRaw",
    "Step",
    "Wait",
    "wire",
]
