"""What a request must pass before its route runs: host, origin, key, rights, body, rate."""
