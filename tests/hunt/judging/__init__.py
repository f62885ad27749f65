"""What must hold of all that was written down, the report of it, and the test of the judge."""
