"""Coding agents, run as programs: the rows of the table that have a shell and a folder of their own."""
