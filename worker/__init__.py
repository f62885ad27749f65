"""The worker: takes generations from the queue, runs them at a provider and appends what comes to the log."""
