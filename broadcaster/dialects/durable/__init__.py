"""Durable Streams 1.0, pure: offsets, headers, how bytes become events and come back, frames of server-sent events."""
