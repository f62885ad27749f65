"""What an error may contain: delays, and a provider's own message."""

import email.utils
import time

import pytest

from broadcaster.core.providers.refusals import TOO_LONG
from broadcaster.testing import Answer, Script
from tests.worker.providers.provider_support import PROMPT, Wire, failing, on_openai_wires, request_for, scripted
from worker.providers.errors import retry_after_s, safe_message

EXTRA = {
    "stop": ["the very end"],
    "my secret prompt is the seventh door": 1,
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
}
REQUEST = request_for("claude-x", system="You are the keeper of the old lighthouse.", extra=EXTRA)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "2", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
    ],
)
def test_a_delay_is_seconds_or_milliseconds_or_a_date_or_none(headers: dict[str, str], seconds: float | None):
    assert retry_after_s(headers) == seconds


def test_a_date_in_the_future_is_that_far_away():
    seconds = retry_after_s({"retry-after": email.utils.formatdate(time.time() + 60, usegmt=True)})
    assert seconds is not None
    assert 55 < seconds <= 60


@on_openai_wires
async def test_an_error_in_a_list_has_the_text_and_the_meaning_of_its_object(on: Wire):
    text = "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."
    body = [{"error": {"code": 400, "message": text, "status": "INVALID_ARGUMENT"}}]
    async with scripted(on) as (server, provider):
        server.script("m", Script(Answer(400, body=body)))
        failure, _ = await failing(provider, request_for("m"))
    assert failure.reason == "provider_bad_request"
    assert text in failure.detail
    assert failure.refusal is not None
    assert (failure.refusal.code, failure.refusal.message) == (TOO_LONG, text)


@pytest.mark.parametrize(
    "message",
    [
        "max_tokens: must be at least 1",
        "messages: roles must alternate",
        "Extra key `temperature` is not permitted",
        "Unsupported token parameter: 'max_tokens'",
        "Unknown parameter: tool_choice.disable_parallel_tool_use",
        "invalid x-api-key header",
        "no such model: hf_small/llama",
        "the limit of the input token: 128000 of 200000",
        "request (9031 tokens) exceeds the available context size (2048 tokens), try increasing it",
    ],
)
def test_a_message_without_secrets_is_kept(message: str):
    assert safe_message(message, REQUEST, ("sk-mine",)) == message


@pytest.mark.parametrize(
    ("message", "safe"),
    [
        ("key mine-1234 is wrong", "key [redacted] is wrong"),
        ("got sk-ant-api03-abcdef", "got [redacted]"),
        ("got gsk_abc123XYZ, which is unknown", "got [redacted] which is unknown"),
        ("got AIzaSyD-abc123_XYZ", "got [redacted]"),
        ("got nvapi-abc123XYZ", "got [redacted]"),
        ("got hf_abcdefghijKLMNOPQRSTuvwxyz", "got [redacted]"),
        ("Authorization: Bearer abcdefgh", "Authorization: [redacted]"),
        ('{"api_key": "abcdefgh"}', '{"api_key": "[redacted]'),
        ("the password hunter2-of-mine", "the password [redacted]"),
        ("Incorrect API key provided: abcd****wxyz. See", "Incorrect API key provided: [redacted] See"),
        ("Incorrect API key provided: sk-abc123***6789. See", "Incorrect API key provided: [redacted] See"),
        ("two\nlines\tand a tab", "two lines and a tab"),
        ("x" * 2000, "x" * 1000),
    ],
)
def test_keys_are_taken_out_and_the_rest_is_one_short_line(message: str, safe: str):
    assert safe_message(message, REQUEST, ("mine-1234",)) == safe


@pytest.mark.parametrize(
    "message",
    [
        f"refused: {PROMPT}",
        f"refused: {PROMPT[3:30]} …",
        "refused: " + PROMPT.replace(" ", "\n"),
        "refused: the keeper of the old lighthouse",
        "Unknown parameter: 'my secret prompt is the seventh door'",
        None,
        {"not": "text"},
    ],
)
def test_a_message_that_repeats_the_request_is_left_out(message: object):
    assert safe_message(message, REQUEST, ()) == ""


@pytest.mark.parametrize("before", range(13))
def test_a_repeated_stretch_is_found_wherever_it_begins_and_a_shorter_one_is_none(before: int):
    stretch = "abcdefghijklmnopqrstuvwx"
    request = request_for("m", messages=[{"role": "user", "content": "-" * before + stretch + "-"}])
    assert safe_message(f"bad: {stretch}", request, ()) == ""
    assert safe_message(f"bad: {stretch[1:]} {stretch[:-1]}", request, ()) != ""


def test_a_long_refusal_takes_hardly_longer_to_compare_with_a_request_than_a_short_one():
    """Searching the whole request for each stretch of a refusal blocked the worker's event loop for seconds."""
    request = request_for("m", messages=[{"role": "user", "content": "the quick brown fox jumps " * 10_000}])

    def cpu_s(message: str) -> float:
        spent = []
        for _ in range(3):
            before = time.process_time()
            assert safe_message(message, request, ()) == message
            spent.append(time.process_time() - before)
        return min(spent)

    long = " ".join(f"{number:03}" for number in range(250))
    assert cpu_s(long) < 8 * cpu_s(long[:47])
