"""``broadcaster doctor``: checks of machine, settings, Redis and network."""
