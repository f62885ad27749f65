"""Terminal output, stdin and failures of the commands."""
