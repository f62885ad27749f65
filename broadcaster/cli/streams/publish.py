"""``publish``: append events to a feed, from the command line or as lines of stdin.

Lines are sent in batches: the lines that arrive during one call form the next batch, so a slow job's line is sent at
once and a fast job's lines do not queue up. A batch whose reply was lost is sent once more under the same key, and
stored once. One that is larger than the front-end takes in one body is sent in halves, each under a key of its own.

With a lease the command renews it while stdin is open: viewers learn that a job was killed with its pipe, and a job
that is only silent does not count as dead.

The numbers of a feed only rise. A reply with a lower number than is due proves that Redis has lost entries, and a
renewal may have created the feed anew. Then the feed ends with ``log_lost``, and so does the command.
"""

from __future__ import annotations

import asyncio
import random
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final, NamedTuple, TypeVar

import msgspec
import typer

from broadcaster.cli.front_end_client import Json, Url, Visit
from broadcaster.cli.terminal.exit_codes import CommandFailed, ExitCode
from broadcaster.cli.terminal.formats import as_json, number
from broadcaster.cli.terminal.stdin_lines import LineTooLong, StdinLine, StdinLines
from broadcaster.client import Appended, AsyncClient, ClientError
from broadcaster.core.requests.json_values import is_too_deep
from broadcaster.core.requests.publishing import MAX_EVENTS_PER_APPEND, TORN, UNWRITABLE
from broadcaster.process.tasks import end_tasks

STDIN: Final = "-"
BATCH_BYTES: Final = 2**20
# A front-end that has responded before is expected back: a restart takes seconds.
GIVE_UP_S: Final = 60.0
RETRY_S: Final = 0.5
RENEWALS_PER_LEASE: Final = 3
# As long as a front-end grants it.
LONGEST_LEASE_S: Final = 3600

# Of a front-end (too many bytes or JSON values), or of a proxy before it.
TOO_LARGE_STATUS: Final = 413
_PLACE: Final = re.compile(r"#/(?P<index>\d+)(?:/(?P<field>[^:;]*))?: (?P<what>[^;]*)")
_SHOWN_CHARS: Final = 60
_Reply = TypeVar("_Reply")


def publish(
    id: Annotated[str, typer.Argument(metavar="ID", help="the feed's id")],
    event: Annotated[
        str | None,
        typer.Argument(metavar="[JSON]", help="an event or an array of them; - reads one JSON a line from stdin"),
    ] = None,
    create: Annotated[bool, typer.Option("--create", help="create the feed first, unless it is there")] = False,
    close: Annotated[bool, typer.Option("--close", help="end the feed with finish when all is appended")] = False,
    lease: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            max=LONGEST_LEASE_S,
            help="with --create: close the feed if no writer checks in for S seconds; - checks in itself",
        ),
    ] = None,
    json: Json = False,
    url: Url = None,
) -> None:
    """Append events to a feed: {"type": "data-progress", "data": {"done": 3, "total": 10}}, text-delta, …"""
    if event is None and not (create or close):
        raise CommandFailed("there is nothing to do: give an event, - for stdin, --create or --close", ExitCode.USAGE)
    if lease is not None and not create:
        raise CommandFailed("a feed is given its lease when it is created: add --create", ExitCode.USAGE)
    events = [] if event in (None, STDIN) else _events_in(event or "", place="the event")
    if event not in (None, STDIN) and not events:
        raise CommandFailed("an append has at least one event: the array is empty", ExitCode.USAGE)
    visit = Visit(url, stream=id, given={"lease_s": f"--lease {lease}"})

    async def work(client: AsyncClient) -> None:
        publisher = _Publisher(client, visit, id=id, as_json=json, lease_s=lease)
        if create:
            await publisher.create()
        try:
            if event == STDIN:
                async with publisher.renewing():
                    await publisher.append_lines(StdinLines())
            elif events:
                await publisher.append([_SourceEvent(each, 0) for each in events])
        finally:
            # Also when a later line is refused: the user must know which lines need not be sent any more.
            publisher.report()
        if close:
            await publisher.close()

    visit.run(work)


class _SourceEvent(NamedTuple):
    """An event and the line it came from; 0: from the command line."""

    event: Any
    line: int


class _Publisher:
    """One command's appends to one feed."""

    def __init__(self, client: AsyncClient, visit: Visit, *, id: str, as_json: bool, lease_s: float | None) -> None:
        self._client = client
        self._screen = visit.screen
        self._id = id
        self._as_json = as_json
        self._lease_s = lease_s
        self._count = 0
        self._last_id = ""
        self._last_seq = 0
        self._failure: CommandFailed | None = None
        self._has_replied = False

    async def create(self) -> None:
        state = await self._repeated(lambda: self._client.create_stream(self._id, lease_s=self._lease_s))
        if self._as_json:
            self._screen.line(as_json(state))

    @asynccontextmanager
    async def renewing(self) -> AsyncIterator[None]:
        """Push the lease out, when there is one, for as long as the block lasts."""
        if self._lease_s is None:
            yield
            return
        task = asyncio.create_task(self._renew(every_s=self._lease_s / RENEWALS_PER_LEASE))
        try:
            yield
        finally:
            await end_tasks(task)
        if not task.cancelled():
            task.result()
        self._raise_failure()

    async def _renew(self, *, every_s: float) -> None:
        while self._failure is None:
            await asyncio.sleep(every_s)
            least_seq = self._last_seq
            try:
                state = await self._client.create_stream(self._id, lease_s=self._lease_s)
                await self._check_loss(state.last_seq, least_seq)
                if state.is_over:  # once it is forgotten, a further renewal would create it anew
                    self._screen.note(f"{self._id} has ended ({state.status}): its lease is not renewed any more")
                    return
            except ClientError as error:
                if not error.retry:
                    self._screen.note(f"the lease is not renewed any more: {error.code}: {error.detail}")
                    return

    async def append(self, sourced: Sequence[_SourceEvent]) -> None:
        """Append all of these, in several appends if needed."""
        for begin in range(0, len(sourced), MAX_EVENTS_PER_APPEND):
            await self._append_once(sourced[begin : begin + MAX_EVENTS_PER_APPEND])

    async def append_lines(self, lines: StdinLines) -> None:
        """Append every line of stdin, until its end."""
        try:
            while batch := await lines.take(most_bytes=BATCH_BYTES):
                await self._append_batch(batch)
        except LineTooLong as error:
            raise CommandFailed(f"{error}; send it in parts", ExitCode.USAGE) from error
        except OSError as error:
            raise CommandFailed(f"stdin cannot be read: {error}", ExitCode.USAGE) from error

    async def close(self) -> None:
        state = await self._repeated(lambda: self._client.close(self._id))
        # A caller without the right to watch gets no number.
        if 0 < state.last_seq <= self._last_seq:
            raise self._loss()
        if self._as_json:
            self._screen.line(as_json(state))
        else:
            self._screen.note(f"{self._id} is closed: {state.status}")

    def report(self) -> None:
        """Report what was appended, unless as JSON."""
        if not self._as_json and self._count:
            self._screen.note(f"{number(self._count, 'event')} appended to {self._id}; the last is {self._last_id}")

    async def _append_batch(self, batch: Sequence[StdinLine]) -> None:
        """Append the lines of a batch; those before an invalid line are appended too."""
        sourced: list[_SourceEvent] = []
        failure: CommandFailed | None = None
        for line in batch:
            if not line.text.strip():
                continue
            try:
                events = _events_in(line.text, place=f"line {line.number}")
            except CommandFailed as error:
                failure = error
                break
            sourced += [_SourceEvent(event, line.number) for event in events]
        await self.append(sourced)
        if failure is not None:
            raise failure

    async def _append_once(self, sourced: Sequence[_SourceEvent]) -> None:
        """Append these in one append, or in halves if the front-end takes less in one body."""
        self._raise_failure()
        key = str(uuid.uuid4())
        events = [event for event, _ in sourced]
        least_seq = self._last_seq + len(events)

        async def send() -> Appended:
            return await self._client.append(self._id, events, idempotency_key=key)

        try:
            taken = await self._repeated(send)
        except ClientError as error:
            self._raise_failure()
            if error.status == TOO_LARGE_STATUS and len(sourced) > 1:
                half = len(sourced) // 2
                await self._append_once(sourced[:half])
                await self._append_once(sourced[half:])
                return
            if error.code == "unknown_stream":
                text = f"unknown_stream: {self._id}: {error.detail}; create it with --create"
                raise CommandFailed(text, ExitCode.FAILED) from error
            raise _placed(error, sourced) or error from error
        await self._check_loss(taken.last_seq, least_seq)
        self._raise_failure()
        self._count += len(taken.ids)
        self._last_id, self._last_seq = taken.last_id, taken.last_seq
        if self._as_json:
            self._screen.line(as_json(taken))

    async def _check_loss(self, last_seq: int, least_seq: int) -> None:
        """After a loss end the feed, so that no viewer takes the rest of it for the whole."""
        if last_seq >= least_seq or self._failure is not None:
            return
        self._failure = self._loss()
        try:
            await self._client.close(self._id, TORN)
        except ClientError as error:
            self._screen.note(f"{self._id} cannot be closed: {error.code}: {error.detail}")

    def _loss(self) -> CommandFailed:
        return CommandFailed(f"{TORN.code}: {TORN.error_text}: {self._id}; publish it again", ExitCode.FAILED)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def _repeated(self, call: Callable[[], Awaitable[_Reply]]) -> _Reply:
        """Repeat a call that may succeed later, for GIVE_UP_S; only if the front-end has responded before."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + GIVE_UP_S
        is_noted = False
        while True:
            try:
                reply = await call()
            except ClientError as error:
                if not error.retry or not self._has_replied or loop.time() >= give_up_at:
                    raise
                if not is_noted:
                    self._screen.note(f"retrying ({error.code})…")
                is_noted = True
                await asyncio.sleep(max(error.retry_after_s or 0.0, RETRY_S * random.uniform(0.5, 1)))
            else:
                self._has_replied = True
                return reply


def _events_in(text: str | bytes, *, place: str) -> list[Any]:
    """The event, or the events of the array, in this JSON."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise CommandFailed(f"{place} is not JSON: {error}", ExitCode.USAGE) from error
    events = value if isinstance(value, list) else [value]
    if any(map(is_too_deep, events)):
        raise CommandFailed(f"{place}: {UNWRITABLE}", ExitCode.USAGE)
    return events


def _placed(error: ClientError, sourced: Sequence[_SourceEvent]) -> CommandFailed | None:
    """The refusal with the event that it concerns, its field and what stands there; None if it concerns no event."""
    found = _PLACE.search(error.detail) if error.code == "invalid_event" else None
    if found is None or int(found["index"]) >= len(sourced):
        return None
    index = int(found["index"])
    refused = sourced[index]
    of_line = [at for at, each in enumerate(sourced) if each.line == refused.line]
    places = [f"line {refused.line}"] if refused.line else []
    if len(of_line) > 1 or not places:
        places.append(f"event {of_line.index(index) + 1}")
    field = (found["field"] or "").replace("~1", "/").replace("~0", "~")
    if field:
        places.append(f"field {field}{_shown(refused.event, field)}")
    return CommandFailed(f"{', '.join(places)}: {error.code}: {found['what']}", ExitCode.FAILED)


def _shown(event: Any, field: str) -> str:
    """What the event has in this field, in parentheses; empty for a field within another one."""
    if not isinstance(event, dict) or field not in event:
        return ""
    text = as_json(event[field])
    return f" ({text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + '…'})"
