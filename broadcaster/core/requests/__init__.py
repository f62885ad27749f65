"""Bounds and forms of what callers send: JSON, metadata, ids, titles. Pure."""
