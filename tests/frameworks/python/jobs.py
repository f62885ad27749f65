"""What all drivers of Python share: jobs as lines of JSON on stdin, answers as lines of JSON on stdout, many at once.

A framework is an object with the methods ``plain``, ``stream``, ``tools`` and ``structured``: each is given a job and
the answer to fill. What it raises becomes the answer's error, beside what it had shown until then.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel

KEY = "any-key"
# llama-index puts eleven generators around a stream of openai.
GENERATORS = 16
Built = TypeVar("Built")


class City(BaseModel):
    """A city and its temperature."""

    city: str
    temperature: int


@dataclass(frozen=True)
class Job:
    """``url`` is the origin; ``abort_after`` is the number of deltas after which the user leaves.

    ``redis_url`` is where a job of publishing/driver.py publishes.
    """

    url: str
    model: str
    prompt: str
    abort_after: int | None = None
    redis_url: str = ""

    @property
    def openai_url(self) -> str:
        """The base URL as OpenAI's clients want it."""
        return f"{self.url}/v1"


@dataclass
class Answer:
    """What the framework shows its user."""

    text: str = ""
    deltas: list[str] = field(default_factory=list)
    finish: str | None = None
    usage: dict[str, int] | None = None
    object: Any = None
    tool_results: list[str] = field(default_factory=list)
    error: dict[str, Any] | None = None

    def add(self, delta: str | None, job: Job) -> bool:
        """One more delta, unless it is empty; whether the user leaves now."""
        if delta:
            self.deltas.append(delta)
            self.text += delta
        return job.abort_after is not None and len(self.deltas) >= job.abort_after

    def count(self, input_tokens: int | None, output_tokens: int | None) -> None:
        """The counts of tokens, if the framework shows them."""
        if input_tokens is not None and output_tokens is not None:
            self.usage = {"input_tokens": input_tokens, "output_tokens": output_tokens}

    def weather(self, city: str) -> str:
        """The tool, which notes what it returned."""
        self.tool_results.append(f"21 degrees in {city}")
        return self.tool_results[-1]


class Framework(Protocol):
    """One row."""

    async def plain(self, job: Job, answer: Answer) -> None: ...
    async def stream(self, job: Job, answer: Answer) -> None: ...
    async def tools(self, job: Job, answer: Answer) -> None: ...
    async def structured(self, job: Job, answer: Answer) -> None: ...


def status_of(error: BaseException | None) -> int | None:
    """The status that an exception carries, or the exception that caused it."""
    for _ in range(8):
        if error is None:
            return None
        for name in ("status_code", "status"):
            if isinstance(status := getattr(error, name, None), int):
                return status
        error = error.__cause__ or error.__context__
    return None


async def run(framework: Framework, action: str, job: Job) -> Answer:
    """The answer to a job, the framework's exception included."""
    answer = Answer()
    try:
        await getattr(framework, action)(job, answer)
    except Exception as error:
        answer.error = {"name": type(error).__name__, "status": status_of(error), "message": str(error)[:2000]}
    if job.abort_after is not None:
        # openai's streams refer to themselves: one that was left is closed when Python collects its garbage, and each
        # generator around it is closed in a turn of the loop of its own.
        for _ in range(GENERATORS):
            gc.collect()
            await asyncio.sleep(0)
    return answer


async def serve(find: Callable[[str], Framework]) -> None:
    """Serve jobs until stdin ends; ``find`` returns the framework of a row, and imports it at the first request."""
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=2**24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    output, sys.stdout = sys.stdout, sys.stderr  # some frameworks print
    running: set[asyncio.Task[None]] = set()

    async def answer(id: int, action: str, row: str, **fields: Any) -> None:
        try:
            reply = {"id": id, "answer": asdict(await run(find(row), action, Job(**fields)))}
        except Exception as error:
            reply = {"id": id, "failure": {"name": type(error).__name__, "message": str(error)}}
        output.write(json.dumps(reply) + "\n")
        output.flush()

    while line := await lines.readline():
        task = asyncio.create_task(answer(**json.loads(line)))
        running.add(task)
        task.add_done_callback(running.discard)
