"""The counts of a chat answer: as the provider reports them, and estimated for what it never reported.

Rules
1. A ``usage`` replaces the one before it; it covers what was written until then if its output count has risen, or if
   it comes with or after the ``finish_reason``. A server that always reports 0 does not count.
2. What no count covers is estimated, on top of the last count: one token for every BYTES_PER_TOKEN bytes.
3. The counts are exact only for a whole answer: before its end the model may have thought more than it has sent.
"""

from __future__ import annotations

from typing import Any

from broadcaster.core.events import Usage
from broadcaster.core.providers.metering import OutputMeter
from broadcaster.dialects.openai.wire import metadata
from broadcaster.dialects.reading import Json, count_in, extras_of, token_count


class Counts:
    """What is known of an answer's tokens; its ``meter`` counts what no usage covers yet."""

    def __init__(self) -> None:
        self.meter = OutputMeter()
        self._usage: Json = {}

    def take(self, usage: Any, *, is_whole: bool) -> None:
        """Take a chunk's ``usage``, after its content; anything but an object is ignored."""
        if not isinstance(usage, dict) or not usage:
            return
        before = self._output or 0
        self._usage = {name: value for name, value in usage.items() if value is not None}
        output = self._output or 0
        if output > before or (is_whole and output):
            self.meter.bytes = 0

    def usage(self, *, is_whole: bool) -> Usage:
        """The counts known now. The input excludes what was read from the cache or written to it."""
        prompt = token_count(self._usage.get("prompt_tokens"))
        read, details = self._usage.get("prompt_tokens_details"), self._usage.get("completion_tokens_details")
        cached, written = count_in(read, "cached_tokens"), count_in(read, "cache_write_tokens")
        return Usage(
            input_tokens=None if prompt is None else max(0, prompt - (cached or 0) - (written or 0)),
            output_tokens=(self._output or 0) + self.meter.estimated_tokens(),
            reasoning_tokens=count_in(details, "reasoning_tokens"),
            cached_input_tokens=cached,
            cache_write_input_tokens=written,
            estimated=not is_whole or self._output is None or self.meter.bytes > 0,
            provider_metadata=metadata(extras_of({"usage": dict(self._usage) or None})),
        )

    @property
    def _output(self) -> int | None:
        return token_count(self._usage.get("completion_tokens"))
