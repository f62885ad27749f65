"""The dialect ``native``: the entries of the log as they are."""
