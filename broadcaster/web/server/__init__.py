"""The HTTP server: sockets, connections, draining."""
