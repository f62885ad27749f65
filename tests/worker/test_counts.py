"""A worker's counts: labels come from closed lists, whatever callers and providers send."""

from __future__ import annotations

import asyncio

import pytest

from broadcaster.core.events import Usage
from broadcaster.core.providers.model_routing import ModelRoutes
from broadcaster.errors import ProviderFailed
from broadcaster.log.jobs.claims import Claim, Outcome, Why
from broadcaster.observability.limits import REACHED
from worker.observing.counts import AttemptCounts, ProviderCounts

ROUTES = ModelRoutes(
    {
        "claude*": "anthropic",
        "fast": ["openai/gpt-fast", "anthropic/claude-fast"],
        "ollama/*": "ollama/*",
        "re:o\\d.*": "openai",
        "local": "local",
    }
)


@pytest.mark.parametrize(
    ("model", "labels"),
    [
        ("claude-opus", ["claude*"]),
        ("claude-" + "x" * 5000, ["claude*"]),
        ('claude\n"} evil 1', ["claude*"]),
        ("fast", ["gpt-fast", "claude-fast"]),
        ("ollama/qwen", ["ollama/*"]),
        ("o3-mini", ["re:o\\d.*"]),
        ("local", ["local"]),
    ],
)
def test_a_models_label_comes_from_the_routes(model: str, labels: list[str]) -> None:
    assert [ROUTES.label_of(model, target) for target in ROUTES.targets_for(model)] == labels


async def test_a_complete_call_counts_its_time_its_first_content_and_its_tokens() -> None:
    counts = ProviderCounts()
    with counts.call("anthropic", "claude*") as call:
        await asyncio.sleep(0.01)
        call.content()
        call.content()  # of another part
        await asyncio.sleep(0.05)
        call.usage = Usage(input_tokens=7, output_tokens=5, cached_input_tokens=2)
    assert counts.calls == {("anthropic", "complete"): 1}
    assert counts.first_s["anthropic", "claude*"].count == 1
    assert 0.01 <= counts.first_s["anthropic", "claude*"].sum < counts.whole_s["anthropic",].sum
    assert counts.per_s["anthropic", "claude*"].sum <= 5 / 0.05
    assert {labels[2]: count for labels, count in counts.tokens.items()} == {"input": 7, "output": 5, "cached_input": 2}


@pytest.mark.parametrize(
    ("error", "outcome", "reasons"),
    [
        (ProviderFailed("x", reason="provider_overloaded"), "failed", {"provider_overloaded"}),
        (ProviderFailed("x", reason="of a provider's own"), "failed", {"other"}),
        (asyncio.CancelledError(), "cancelled", set()),
        (RuntimeError(), "crashed", set()),
    ],
)
async def test_a_call_that_fails_counts_its_reason_and_the_tokens_so_far(
    error: BaseException, outcome: str, reasons: set[str]
) -> None:
    counts = ProviderCounts()
    with pytest.raises(type(error)), counts.call("openai", "gpt-*") as call:
        call.usage = Usage(output_tokens=3, estimated=True)
        raise error
    assert counts.calls == {("openai", outcome): 1}
    assert {reason for _, reason in counts.errors} == reasons
    assert counts.tokens["openai", "gpt-*", "output"] == 3
    assert not counts.whole_s
    assert not counts.per_s


@pytest.mark.parametrize(
    ("outcome", "reason", "labels"),
    [
        ("finished", "max_tokens", ("finished", "")),
        ("failed", "provider_timeout", ("failed", "provider_timeout")),
        ("failed", "a code that nobody knows", ("failed", "other")),
        ("aborted", "stopped", ("aborted", "stopped")),
        ("lost", None, ("lost", "")),
    ],
)
def test_the_reason_of_an_attempts_end_is_one_of_ours(
    outcome: str, reason: str | None, labels: tuple[str, str]
) -> None:
    counts = AttemptCounts()
    counts.end(outcome, reason)
    assert +counts.ended == {labels: 1}


def test_a_take_over_is_a_granted_claim_of_a_generation_that_had_begun() -> None:
    counts, before = AttemptCounts(), REACHED["LEASE_TTL_S"]
    for outcome, attempt in ((Outcome.GRANTED, 2), (Outcome.GRANTED, 1), (Outcome.LEASED, 2)):
        counts.take_over(Claim(outcome, 1, 0, attempt, Why.NOT))
    assert (counts.take_overs, REACHED["LEASE_TTL_S"] - before) == (1, 1)


def test_each_kind_of_failure_is_counted_from_0_so_that_its_first_one_is_an_increase() -> None:
    counts = AttemptCounts()
    assert counts.ended["failed", "log_lost"] == 0
    assert ("failed", "log_lost") in counts.ended
    counts.end("failed", "log_lost")
    assert counts.ended["failed", "log_lost"] == 1
