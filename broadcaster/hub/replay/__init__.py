"""From the past of a stream to its live end: where a viewer begins, and what it receives first."""
