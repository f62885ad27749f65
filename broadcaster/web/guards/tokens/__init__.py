"""Viewer tokens at a front-end: where a request carries one, whose are accepted, and new ones."""
