"""Every call that requests a generation, by the surface it is of: path and body."""

from __future__ import annotations

from typing import Any

REQUEST = [{"role": "user", "content": "Hi"}]
PARTS = [{"type": "text", "text": "Hi"}]
RUN = {
    "threadId": "t", "runId": "r", "messages": [{"id": "m", **REQUEST[0]}], "tools": [], "context": [], "state": {},
    "forwardedProps": {},
}  # fmt: skip
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "generations": ("/v1/generations", {"messages": REQUEST}),
    "a streamed generation": ("/v1/generations", {"messages": REQUEST, "stream": True}),
    "chat completions": ("/v1/chat/completions", {"model": "local", "messages": REQUEST}),
    "streamed chat completions": ("/v1/chat/completions", {"model": "local", "messages": REQUEST, "stream": True}),
    "responses": ("/v1/responses", {"model": "local", "input": "Hi"}),
    "responses in the background": ("/v1/responses", {"model": "local", "input": "Hi", "background": True}),
    "streamed responses": ("/v1/responses", {"model": "local", "input": "Hi", "stream": True}),
    "messages": ("/v1/messages", {"model": "local", "max_tokens": 9, "messages": REQUEST}),
    "streamed messages": ("/v1/messages", {"model": "local", "max_tokens": 9, "messages": REQUEST, "stream": True}),
    "ai sdk": ("/api/chat", {"id": "c", "messages": [{"id": "m", "role": "user", "parts": PARTS}]}),
    "ag-ui": ("/agui", RUN),
}
