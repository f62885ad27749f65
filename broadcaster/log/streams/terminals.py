"""The terminal events that the log itself writes for a stream without a writer, as JSON."""

from __future__ import annotations

from typing import Final

from broadcaster.core.events import Abort, Error, encode_event

STOPPED: Final = encode_event(Abort(reason="stopped"))
WORKER_LOST: Final = encode_event(Error(error_text="the worker was lost in mid-answer", code="worker_lost"))
ATTEMPTS_SPENT: Final = encode_event(Error(error_text="every attempt was lost", code="attempts_spent"))
QUEUE_TIMEOUT: Final = encode_event(Error(error_text="no worker took it in time", code="queue_timeout"))
STATE_LOST: Final = encode_event(Error(error_text="the request was lost with Redis's data", code="state_lost"))
STREAM_FULL: Final = encode_event(Error(error_text="the answer is longer than a stream may be", code="stream_full"))
LOG_LOST: Final = encode_event(Error(error_text="Redis lost the answer again and again", code="log_lost"))
GENERATION_LOST: Final = encode_event(
    Error(error_text="Redis lost the answer, and no process could write it again", code="log_lost")
)
GENERATION_TIMEOUT: Final = encode_event(
    Error(error_text="the answer took longer than it may", code="generation_timeout")
)
WRITER_LOST: Final = encode_event(Error(error_text="no writer has checked in for the feed's lease", code="writer_lost"))
NO_WORKER: Final = encode_event(Error(error_text="no worker is alive", code="worker_lost"))
