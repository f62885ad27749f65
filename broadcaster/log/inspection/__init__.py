"""What a Redis server is and how it is configured, for `broadcaster doctor`."""
