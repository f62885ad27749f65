"""Generations as jobs: created, queued, claimed, leased, ended, deleted."""
