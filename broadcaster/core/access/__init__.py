"""API keys, origins, rates and the addresses of Redis, as values. Pure."""
