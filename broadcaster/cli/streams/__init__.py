"""The commands about generations and feeds, over HTTP to a running front-end."""
