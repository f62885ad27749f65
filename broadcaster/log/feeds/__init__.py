"""Feeds: streams that users' own programs write."""
