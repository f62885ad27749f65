"""Writing and reading one stream, its viewers and its size."""
