"""A front-end's live supply of entries: pushes, proven dense, with holes repaired from the log."""
