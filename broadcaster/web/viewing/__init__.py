"""Viewers of streams: how they join, receive, wait and are counted."""
