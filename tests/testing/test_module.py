"""``python -m broadcaster.testing``: the paced provider as a process."""

import asyncio
import json
import sys

import pytest

from broadcaster.testing.__main__ import main
from tests.testing.raw_client import RawClient


async def test_the_process_prints_its_address_serves_any_model_and_ends_on_sigterm():
    command = [sys.executable, "-m", "broadcaster.testing", "--rate", "500", "--tokens", "2"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        line = (await asyncio.wait_for(process.stdout.readline(), 20)).decode()
        assert line.startswith("listening on http://127.0.0.1:")
        url = line.removeprefix("listening on ").strip()
        variables = [(await asyncio.wait_for(process.stdout.readline(), 20)).decode().strip() for _ in range(2)]
        assert variables == [f"OPENAI_BASE_URL={url}/v1", f"ANTHROPIC_BASE_URL={url}"]
        reader, writer = await asyncio.open_connection("127.0.0.1", int(line.rpartition(":")[2]))
        client = RawClient(reader, writer)
        client.post("whatever")
        await client.head()
        events = [json.loads(chunk.partition(b"data: ")[2]) for chunk in await client.chunks()]
        assert [event["delta"]["text"] for event in events if event["type"] == "content_block_delta"] == [
            "word0 ",
            "word1 ",
        ]
        for path, text in (("/v1/chat/completions", b'{"content":"word1 "}'), ("/v1/responses", b'"delta":"word1 "')):
            client.post("whatever", path=path)
            await client.head()
            assert text in b"".join(await client.chunks())
        writer.close()
    finally:
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 10) == 0


@pytest.mark.parametrize("rate", ["0", "-1", "fast"])
def test_a_rate_that_is_none_is_refused(rate: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["--rate", rate])
    assert "--rate" in capsys.readouterr().err
