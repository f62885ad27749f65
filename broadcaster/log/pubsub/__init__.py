"""Subscriber connections, one for each node of Redis: opened, probed and replaced when they break."""
