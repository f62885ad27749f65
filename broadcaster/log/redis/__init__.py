"""How this project reaches Redis: addresses, connections, key names, scripts, the embedded server."""
