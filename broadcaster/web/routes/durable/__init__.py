"""``/ds/``: Durable Streams 1.0 over the log."""
