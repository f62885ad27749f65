"""What the worker's clients of other servers have in common."""
