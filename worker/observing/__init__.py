"""What a worker reports about its attempts: a line in the log, and spans."""
