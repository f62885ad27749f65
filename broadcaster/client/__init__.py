"""The Python client of a front-end: everything over HTTP, streams resumed by themselves."""

from broadcaster.client.blocking import Client
from broadcaster.client.client import AsyncClient
from broadcaster.client.documents import (
    Appended,
    CreatedToken,
    Fault,
    Generation,
    GenerationList,
    ListedStream,
    QueueCounts,
    StreamList,
    StreamState,
    WorkersPage,
    WorkerState,
)
from broadcaster.client.errors import BadAnswer, CannotConnect, ClientError, GaveUp, StreamClosed
from broadcaster.client.stream import EntryReceived, GapReceived, Notice, Reconnecting, StreamEvent
from broadcaster.core.requests.progress import JobProgress

__all__ = [
    "Appended",
    "AsyncClient",
    "BadAnswer",
    "CannotConnect",
    "Client",
    "ClientError",
    "CreatedToken",
    "EntryReceived",
    "Fault",
    "GapReceived",
    "GaveUp",
    "Generation",
    "GenerationList",
    "JobProgress",
    "ListedStream",
    "Notice",
    "QueueCounts",
    "Reconnecting",
    "StreamClosed",
    "StreamEvent",
    "StreamList",
    "StreamState",
    "WorkerState",
    "WorkersPage",
]
