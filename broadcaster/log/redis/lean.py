"""redis-py without OpenTelemetry's metrics. A process of ours imports this before anything that imports redis-py.

redis-py imports OpenTelemetry's SDK of metrics wherever it is installed, for metrics of its own, which are off here.
That takes a quarter of its import. A library does not import this: its host may use those metrics.
"""

from broadcaster.process.absence import absent

with absent("opentelemetry.sdk.metrics"):
    import redis.asyncio  # noqa: F401
