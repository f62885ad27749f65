"""The questions of each user: the app's own table. Answers are not in it, they are read from their streams."""

from __future__ import annotations

import os
import sqlite3
import uuid
from contextlib import closing
from dataclasses import dataclass
from typing import Final

# One file, shared by every process of the app.
_FILE: Final = os.environ.get("CHAT_DB", "chat.sqlite3")
# A browser opens at most six connections to one server over HTTP/1.1, and each answer on the page is one while it runs.
SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Question:
    """What a user asked, and the stream that holds the answer; None before the answer has begun."""

    id: str
    prompt: str
    stream_id: str | None


def create_table() -> None:
    """Safe to call from every process."""
    with closing(_open()) as database, database:
        columns = "id TEXT PRIMARY KEY, user TEXT, prompt TEXT, stream_id TEXT UNIQUE"
        database.execute(f"CREATE TABLE IF NOT EXISTS questions ({columns})")


def remember(user: str, prompt: str) -> Question:
    """Store a question whose answer has not begun."""
    question = Question(f"answer_{uuid.uuid4().hex}", prompt, None)
    with closing(_open()) as database, database:
        database.execute("INSERT INTO questions VALUES (?, ?, ?, NULL)", (question.id, user, prompt))
    return question


def set_stream(question_id: str, stream_id: str) -> None:
    """From now on the user of the question may watch the stream, and no other user may."""
    with closing(_open()) as database, database:
        database.execute("UPDATE questions SET stream_id = ? WHERE id = ?", (stream_id, question_id))


def forget(question_id: str) -> None:
    """Delete a question whose answer cannot begin."""
    with closing(_open()) as database, database:
        database.execute("DELETE FROM questions WHERE id = ?", (question_id,))


def newest(user: str) -> list[Question]:
    """What the page shows, oldest first."""
    with closing(_open()) as database:
        rows = database.execute(
            "SELECT id, prompt, stream_id FROM questions WHERE user = ? ORDER BY rowid DESC LIMIT ?", (user, SHOWN)
        ).fetchall()
    return [Question(*row) for row in reversed(rows)]


def is_owner(user: str, stream_id: str) -> bool:
    """Whether this user asked the question that the stream answers."""
    with closing(_open()) as database:
        found = database.execute("SELECT 1 FROM questions WHERE stream_id = ? AND user = ?", (stream_id, user))
        return found.fetchone() is not None


def _open() -> sqlite3.Connection:
    return sqlite3.connect(_FILE, timeout=5.0)
