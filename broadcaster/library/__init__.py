"""The log from inside a Python program, without a server: write feeds, read streams, mount the routes."""
