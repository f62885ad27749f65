"""docs/reference/ is printed from the docstrings of the public API. ``python -m tests.guards.reference`` writes it."""
