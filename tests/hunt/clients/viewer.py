"""A viewer: one stream, one dialect, connections that break where the seed says, resumed at another front-end.

It does what the dialect's client does, no more: it resumes by the id or the number that it received last, requests
everything anew where the dialect has none or marks what it shows as void, and stops at the end it received.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.hunt.clients.folds import Fold, NativeFold, Next, Wrong
from tests.hunt.clients.sdk_folds import FOLDS, ResponsesFold
from tests.hunt.system.wire import Block, Broken, open_request

# Heartbeats come each second: a connection that is silent for longer is left, as a balancer or a client would.
SILENCE_S: Final = 7.0
PAUSE_S: Final = 0.15
CUT_SHARE: Final = 0.5
SLOW_S: Final = 0.4
# What a surface answers for an answer that failed before its first content.
FAILED: Final = frozenset({500, 502, 504})
# The shapes that hold nothing but a text: a client may resume in another one by the same id.
SWITCHES: Final = ("native", "delta", "named", "parts")


@dataclass
class Viewer:
    """See the module's text. ``wrong``: what it received and no client may receive."""

    name: str
    stream: str
    dialect: str
    urls: Sequence[str]
    rng: random.Random
    keeps: Callable[[], bool]  # whether Redis has kept what it acknowledged: then nothing may be unknown
    post: tuple[str, Any, dict[str, str]] | None = None  # how a surface's client requests, and retries
    is_slow: bool = False
    fold: Fold = field(init=False)
    is_native_throughout: bool = field(init=False)
    wrong: list[str] = field(default_factory=list)
    trace: deque[str] = field(default_factory=lambda: deque(maxlen=160))
    connections: int = 0
    blocks: int = 0
    ended_at: float | None = None
    moved_at: float = field(default_factory=time.monotonic)
    has_left: bool = False
    task: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.fold = FOLDS[self.dialect]()
        self.is_native_throughout = self.dialect == "native"
        if self.post is not None and self.dialect in ("ai-sdk", "ag-ui"):
            self.fold.has_ids = False

    async def run(self) -> None:
        """Until the end, or until something is wrong."""
        while self.ended_at is None and not self.wrong:
            try:
                follow = await self._connection()
            except (Broken, TimeoutError) as error:
                self.note(f"broken: {error!r}")
                follow = Next.RESUME if self.fold.has_ids else Next.DISCARD
            except (Wrong, ValueError, KeyError, TypeError) as error:
                self.wrong.append(repr(error))
                return
            if follow is Next.DONE:
                self.ended_at = time.monotonic()
                return
            if follow is Next.DISCARD or (self.fold.cursor is None and not isinstance(self.fold, ResponsesFold)):
                self.fold.forget()
                self.is_native_throughout = self.dialect == "native"
            self._maybe_switch()
            await asyncio.sleep(PAUSE_S)

    def note(self, fault: str) -> None:
        """Remember it for a report."""
        self.trace.append(f"{time.monotonic():.3f} {fault}")

    async def _connection(self) -> Next:
        url = self.rng.choice(self.urls)
        method, path, body, headers = self._request()
        self.connections += 1
        self.note(f"{method} {url}{path} {headers}")
        self.fold.begin(keeps=self.keeps())
        cut_after = self.rng.randint(1, 40) if self.rng.random() < CUT_SHARE else None
        async with (
            asyncio.timeout(SILENCE_S) as silence,
            open_request(url, method, path, body=body, headers=headers) as opened,
        ):
            if opened.status != 200:
                return await self._refused(opened.status, (await opened.whole()).code)
            if not opened.headers.get("content-type", "").startswith("text/event-stream"):
                raise Wrong(f"no event stream: {opened.headers}")
            loop = asyncio.get_running_loop()
            async for block in opened.blocks():
                silence.reschedule(loop.time() + SILENCE_S)
                if block.is_comment:
                    continue
                follow = self._take(block)
                if follow is not Next.READ_ON:
                    return follow
                if cut_after is not None and self.blocks % 41 >= cut_after and self.rng.random() < 0.2:
                    self.note("leaves the connection")
                    return Next.RESUME if self.fold.has_ids else Next.DISCARD
                if self.is_slow and self.rng.random() < 0.05:
                    await asyncio.sleep(SLOW_S)
        if self.fold.ending is not None:
            return Next.DONE
        raise Wrong("the response ended cleanly, without an end of its stream and without an error")

    def _take(self, block: Block) -> Next:
        self.blocks += 1
        self.moved_at = time.monotonic()
        self.note(f"{block.id} {block.event} {block.data[:160]}")
        return self.fold.take(block)

    def _request(self) -> tuple[str, str, Any, dict[str, str]]:
        has_number = isinstance(self.fold, ResponsesFold) and self.fold.number >= 0
        if self.post is not None and self.fold.cursor is None and not has_number:
            path, body, headers = self.post
            return "POST", path, body, headers
        if isinstance(self.fold, ResponsesFold):
            after = f"&starting_after={self.fold.number}" if has_number else ""
            return "GET", f"/v1/responses/resp_{self.stream}?stream=true{after}", None, {}
        query = "" if self.dialect == "native" else f"?dialect={self.dialect}"
        headers = {"last-event-id": self.fold.cursor} if self.fold.cursor is not None else {}
        return "GET", f"/v1/streams/{self.stream}/events{query}", None, headers

    async def _refused(self, status: int, code: str) -> Next:
        self.note(f"status {status} {code}")
        if self.post is not None and status in FAILED:
            return self.fold.end("error", code)
        if status == 204 and self.fold.ending is not None:
            return Next.DONE
        is_later = status in (503, 429, 529)
        if not is_later and self.keeps():
            raise Wrong(f"status {status} {code} for a stream that is there")
        if status in (204, 404, 400):
            self.fold.declared.append(str(status))
            return Next.DISCARD if status != 404 else self.fold.end("error", code)
        return Next.RESUME

    def _maybe_switch(self) -> None:
        """Sometimes go on in another shape that holds a text alone."""
        if (
            self.post is not None
            or self.dialect not in SWITCHES
            or self.rng.random() > 0.25
            or self.fold.cursor is None
        ):
            return
        self.dialect = self.rng.choice(SWITCHES)
        old, self.fold = self.fold, FOLDS[self.dialect]()
        self.fold.text, self.fold.cursor, self.fold.declared = old.text, old.cursor, old.declared
        self.is_native_throughout = self.is_native_throughout and isinstance(self.fold, NativeFold)
        if isinstance(old, NativeFold) and isinstance(self.fold, NativeFold):
            self.fold.entries = old.entries
        self.note(f"goes on as {self.dialect}")
