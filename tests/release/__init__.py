"""What is published: built, read, and used in fresh environments. `make release` is `python -m tests.release`."""
