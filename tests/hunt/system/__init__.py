"""What a hunt runs on: servers, relays and processes, and the other side of each wire (provider, receiver, tools)."""
