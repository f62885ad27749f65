"""``broadcaster demo``: everything on this machine, on a local model, with buttons that break it."""
