"""The counts of a Responses answer.

Rules
1. They come with the end of the response. Before it, and for ever after a cancel, the output is estimated: one token
   for every BYTES_PER_TOKEN UTF-8 bytes of text, reasoning and tool input received, rounded up.
2. ``input_tokens`` are those neither read from a cache nor written to one, which are counted apart; the wire's count
   them all. The wire's own counts are in the metadata.
3. A server that reports 0 for an answer with text does not count.
"""

from __future__ import annotations

from broadcaster.core.events import Usage
from broadcaster.core.providers.metering import OutputMeter
from broadcaster.dialects.openai.wire import metadata
from broadcaster.dialects.reading import Json, count_in, token_count


def usage_of(usage: Json, meter: OutputMeter) -> Usage:
    """The wire's counts, or an estimate from the text so far."""
    estimated = meter.estimated_tokens()
    reported = token_count(usage.get("output_tokens"))
    is_reported = reported is not None and (reported > 0 or estimated == 0)
    cached = count_in(usage.get("input_tokens_details"), "cached_tokens")
    cache_write = count_in(usage.get("input_tokens_details"), "cache_write_tokens")
    total = token_count(usage.get("input_tokens"))
    return Usage(
        input_tokens=None if total is None else max(0, total - (cached or 0) - (cache_write or 0)),
        output_tokens=reported if is_reported else estimated,
        reasoning_tokens=count_in(usage.get("output_tokens_details"), "reasoning_tokens"),
        cached_input_tokens=cached,
        cache_write_input_tokens=cache_write,
        estimated=not is_reported,
        provider_metadata=metadata({"usage": dict(usage)} if usage else {}),
    )
