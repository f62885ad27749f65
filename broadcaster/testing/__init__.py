"""Public helpers for tests: a scripted LLM provider on a real loopback socket.

``ScriptedProvider`` speaks Anthropic Messages, OpenAI chat completions and OpenAI Responses and keeps a log of the
requests; a ``Script`` defines the response on any wire; ``wire``, ``chat_wire`` and ``responses_wire`` build the events
of each. With a ``Conversation`` the test answers a live request step by step. ``python -m broadcaster.testing``
serves paced text to any model.
"""

from broadcaster.testing import chat_wire, completion_wire, responses_wire, wire
from broadcaster.testing.conversation import Conversation
from broadcaster.testing.exchange import Exchange
from broadcaster.testing.http1 import ClientGone, RecordedRequest
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
    "chat_wire",
    "completion_wire",
    "responses_wire",
    "wire",
]
