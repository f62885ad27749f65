"""What an error may say: delays, and a provider's own words."""

import email.utils
import time

import pytest

from tests.worker.provider_support import PROMPT, request_for
from worker.providers.errors import retry_after_s, shown_message

REQUEST = request_for("claude-x", system="You are the keeper of the old lighthouse.", extra={"stop": ["the very end"]})


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


@pytest.mark.parametrize(
    "message",
    [
        "max_tokens: must be at least 1",
        "messages: roles must alternate",
        "Extra key `temperature` is not permitted",
        "request (9031 tokens) exceeds the available context size (2048 tokens), try increasing it",
    ],
)
def test_a_message_that_gives_nothing_away_is_shown(message: str):
    assert shown_message(message, REQUEST, ("sk-mine",)) == message


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("key mine-1234 is wrong", "key [redacted] is wrong"),
        ("got sk-ant-api03-abcdef", "got [redacted]"),
        ("Authorization: Bearer abcdefgh", "Authorization: [redacted]"),
        ('{"api_key": "abcdefgh"}', '{"[redacted]'),
        ("two\nlines\tand a tab", "two lines and a tab"),
        ("x" * 2000, "x" * 1000),
    ],
)
def test_keys_are_taken_out_and_the_rest_is_one_short_line(message: str, shown: str):
    assert shown_message(message, REQUEST, ("mine-1234",)) == shown


@pytest.mark.parametrize(
    "message",
    [
        f"refused: {PROMPT}",
        f"refused: {PROMPT[3:30]} …",
        "refused: " + PROMPT.replace(" ", "\n"),
        "refused: the keeper of the old lighthouse",
        None,
        {"not": "text"},
    ],
)
def test_a_message_that_repeats_the_request_is_left_out(message: object):
    assert shown_message(message, REQUEST, ()) == ""
