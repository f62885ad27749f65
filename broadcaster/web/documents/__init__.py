"""The JSON documents of requests, responses and problems."""
