"""broadcaster inside a program of its own: publish, read and ask over Redis directly, mount the routes in an app."""
