"""Viewers at the live end of their stream: one write of shared bytes for each socket."""
