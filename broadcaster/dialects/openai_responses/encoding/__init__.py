"""The output of one Response, written item by item."""
