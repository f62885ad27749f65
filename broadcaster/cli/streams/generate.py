"""``generate``: start a generation and watch it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
import typer

from broadcaster.cli.front_end_client import Json, Plain, Url, Visit
from broadcaster.cli.streams.unknown_models import unknown_model
from broadcaster.cli.terminal.completion import complete_models
from broadcaster.cli.terminal.exit_codes import CommandFailed, ExitCode
from broadcaster.cli.terminal.formats import as_json
from broadcaster.cli.terminal.stdin_text import reading_stdin
from broadcaster.cli.terminal.usage import quoted
from broadcaster.client import AsyncClient, ClientError

STDIN: Final = "-"
_NO_MESSAGES: Final = 'holds no JSON list of messages, [{"role": "user", "content": "…"}, …]'

Model = Annotated[str | None, typer.Option(help="without it the front-end's default", autocompletion=complete_models)]
System = Annotated[str | None, typer.Option(help="the system prompt")]
Temperature = Annotated[float | None, typer.Option(min=0, max=2, help="0: always the likeliest word; 1: as trained")]
MaxTokens = Annotated[int | None, typer.Option(min=1, help="the longest answer")]


def generate(
    prompt: Annotated[str | None, typer.Argument(metavar="[PROMPT]", help="the prompt; - reads it from stdin")] = None,
    messages: Annotated[
        Path | None,
        typer.Option(
            "--messages",
            metavar="FILE",
            allow_dash=True,
            help='the conversation so far, as JSON: [{"role": "user", "content": "…"}, …]; PROMPT is its next message',
        ),
    ] = None,
    model: Model = None,
    system: System = None,
    temperature: Temperature = None,
    max_tokens: MaxTokens = None,
    metadata: Annotated[str | None, typer.Option(metavar="JSON", help="an object that is kept with the answer")] = None,
    on_worker_loss: Annotated[
        Literal["retry", "fail"] | None,
        typer.Option(help="if the worker is lost midway: restart the answer, or fail"),
    ] = None,
    on_provider_loss: Annotated[
        Literal["fail", "retry"] | None,
        typer.Option(help="if the provider drops the answer midway: fail, or retry"),
    ] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="the same key and request again: the same generation")
    ] = None,
    no_watch: Annotated[bool, typer.Option("--no-watch", help="start it, print its id, do not wait")] = False,
    plain: Plain = False,
    json: Json = False,
    url: Url = None,
) -> None:
    """Start a generation and watch it: the answer on stdout, everything else on stderr.

    Ctrl-C stops the watching, not the generation.
    """
    given = {
        "prompt": "PROMPT",
        "messages": f"--messages {messages}",
        "system": "--system",
        "temperature": f"--temperature {temperature}",
        "max_tokens": f"--max-tokens {max_tokens}",
        "model": f"--model {model}",
        "metadata": "--metadata",
    }
    visit = Visit(url, is_plain=plain or json, given=given)
    conversation = _conversation(prompt, messages)
    extra = (
        None
        if metadata is None
        else _parsed(metadata, dict[str, Any], place=f"--metadata {quoted(metadata)} is no JSON object")
    )

    async def work(client: AsyncClient) -> ExitCode:
        try:
            generation = await client.start(
                **conversation,
                model=model,
                idempotency_key=idempotency_key,
                system=system,
                temperature=temperature,
                max_tokens=max_tokens,
                metadata=extra,
                on_worker_loss=on_worker_loss,
                on_provider_loss=on_provider_loss,
            )
        except ClientError as error:
            raise await unknown_model(client, error, model) or error from error
        if no_watch:
            visit.screen.line(as_json(generation) if json else generation.id)
            return ExitCode.OK
        visit.began(generation.id)
        return await visit.watch(client, generation.id, after=None, as_json=json)

    visit.run(work)


def _conversation(prompt: str | None, file: Path | None) -> dict[str, Any]:
    """The fields ``prompt`` or ``messages`` of the request. Raises CommandFailed."""
    if prompt is None and file is None:
        raise CommandFailed(
            "there is nothing to answer: give a PROMPT, - for stdin, or --messages FILE", ExitCode.USAGE
        )
    if prompt == STDIN and file is not None and str(file) == STDIN:
        raise CommandFailed("stdin is read once: PROMPT or --messages may be -, not both", ExitCode.USAGE)
    text = _stdin_text() if prompt == STDIN else prompt
    if text == "":
        raise CommandFailed(f"{'stdin' if prompt == STDIN else 'PROMPT'} is empty: write a question", ExitCode.USAGE)
    if file is None:
        return {"prompt": text}
    messages: Sequence[Mapping[str, Any]] = _parsed(
        _read(file), list[dict[str, Any]], place=f"--messages {file} {_NO_MESSAGES}"
    )
    return {"messages": messages if text is None else [*messages, {"role": "user", "content": text}]}


def _read(file: Path) -> str:
    try:
        return _stdin_text() if str(file) == STDIN else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"it is not UTF-8 text ({error})"
        raise CommandFailed(f"--messages {file} cannot be read: {reason}", ExitCode.USAGE) from error


def _stdin_text() -> str:
    with reading_stdin() as stdin:
        return stdin.read()


def _parsed(text: str, kind: Any, *, place: str) -> Any:
    """JSON of this kind. Raises CommandFailed, which begins with the place and what it should hold."""
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise CommandFailed(f"{place}: {error}", ExitCode.USAGE) from error
