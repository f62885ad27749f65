"""The local model: a real, small one on this machine."""
