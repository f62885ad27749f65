"""The questions of each user: the app's own table. Answers are not in it, they are read from their streams."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import Final

# One file, shared by every process of the app.
_FILE: Final = os.environ.get("CHAT_DB", "chat.sqlite3")
# A browser opens at most six connections to one server over HTTP/1.1, and each answer on the page is one while it runs.
SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Question:
    """What a user asked, and the stream that holds the answer."""

    stream_id: str
    prompt: str


def create_table() -> None:
    """Safe to call from every process."""
    with closing(_open()) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS questions (stream_id TEXT PRIMARY KEY, user TEXT, prompt TEXT)")


def remember(user: str, question: Question) -> None:
    """From now on this user, and nobody else, may watch the stream."""
    with closing(_open()) as database, database:
        database.execute("INSERT INTO questions VALUES (?, ?, ?)", (question.stream_id, user, question.prompt))


def newest(user: str) -> list[Question]:
    """What the page shows, oldest first."""
    with closing(_open()) as database:
        rows = database.execute(
            "SELECT stream_id, prompt FROM questions WHERE user = ? ORDER BY rowid DESC LIMIT ?", (user, SHOWN)
        ).fetchall()
    return [Question(stream_id, prompt) for stream_id, prompt in reversed(rows)]


def is_owner(user: str, stream_id: str) -> bool:
    """Whether this user asked the question that the stream answers."""
    with closing(_open()) as database:
        found = database.execute("SELECT 1 FROM questions WHERE stream_id = ? AND user = ?", (stream_id, user))
        return found.fetchone() is not None


def _open() -> sqlite3.Connection:
    return sqlite3.connect(_FILE, timeout=5.0)
