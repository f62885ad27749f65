"""What programs publish: streams of SDKs and plain iterators → pieces of a feed (`opening.open_source`)."""
