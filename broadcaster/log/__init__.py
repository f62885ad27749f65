"""The only room that knows Redis: the log of every stream, the queue, leases, stop, presence and the feed."""
