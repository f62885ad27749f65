"""Access: the callers' keys and the revoked tokens that all front-ends share."""
