"""What a seed fixes: the system, the answers, and each step of traffic and faults, whatever the system does."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from tests.hunt.system.provider import Plan, Trouble
from tests.hunt.system.tools import ONCE, REPEATABLE

TOPOLOGIES: Final = ("one", "one", "sentinel", "cluster")


@dataclass(frozen=True)
class Setup:
    """The system. ``processes`` of each front-end; ``skews``: how far each worker's wall clock is off, in seconds."""

    topology: str
    lossy: bool
    has_relays: bool
    has_clock: bool
    is_forked: bool
    processes: tuple[int, ...]
    skews: tuple[int, ...]
    settings: dict[str, Any]
    seed: int = 0

    def __str__(self) -> str:
        traits = [self.topology, f"processes {self.processes}", f"skews {self.skews}"]
        traits += [name for name in ("lossy", "has_relays", "has_clock", "is_forked") if getattr(self, name)]
        return ", ".join(traits) + "; " + ", ".join(f"{name}={value}" for name, value in self.settings.items())


def draw_setup(rng: random.Random, *, topology: str, lossy: bool, has_faketime: bool) -> Setup:
    """The system of this seed; ``topology`` may be ``drawn``."""
    drawn = rng.choice(TOPOLOGIES)
    kind = drawn if topology == "drawn" else topology
    lease_s = rng.choice((1.0, 2.0))
    settings = {
        "lease_ttl_s": lease_s,
        "heartbeat_s": 1,
        "slow_viewer_s": 3,
        "delete_timeout_s": 5,
        "stall_timeout_s": 45,
        "max_attempts": 30,
        "attempt_backoff_s": 0.2,
        "drain_s": 1,
        "drain_window_s": 0.5,
        "retry_ms": 100,
        "abandon_grace_s": 2,
        "presence_ttl_s": rng.choice((6, 180)),
        "feed_append_rate": 2000,
        "provider_timeout_s": 15,
        "provider_cooldown_s": 0.3,
        "provider_retries": 3,
        "redis_timeout_s": lease_s / rng.choice((2, 4)),
        "push_max_bytes": rng.choice((200, 65536)),
        "room_bytes": rng.choice((65_536, 16_777_216)),
        "concurrency": rng.choice((4, 100)),
    }
    relays, clock = rng.random() < 0.6, rng.random() < 0.5
    skews = tuple(rng.choice((0, 0, 0, -40, 3600)) for _ in range(2))
    return Setup(
        topology=kind,
        lossy=lossy,
        has_relays=relays,
        is_forked=rng.random() < 0.6,
        has_clock=clock and has_faketime and kind == "one",
        processes=rng.choice(((1, 1), (1, 2), (1, 1, 1))),
        skews=skews if has_faketime else (0, 0),
        settings=settings,
    )


class Step(NamedTuple):
    """After ``wait_s``, do ``name``; the shares in [0, 1) choose target and size; ``seed`` is for what it draws."""

    wait_s: float
    name: str
    who: float
    much: float
    seed: int


TRAFFIC: Final = {
    "answer": 14,
    "feed": 4,
    "join": 18,
    "leave": 4,
    "stop": 3,
    "trim": 1,
    "lease": 3,
    "delete": 2,
    "delete_new": 3,
}
PROCESS_FAULTS: Final = {
    "kill_worker": 4,
    "freeze_worker": 3,
    "end_worker": 3,
    "kill_front_end": 4,
    "freeze_front_end": 2,
    "end_front_end": 3,
    "kill_member": 2,
}
REDIS_FAULTS: Final = {"kill_clients": 4, "pause_clients": 2, "sleep": 2, "flush_scripts": 2, "fill": 2}
FAULTS: Final = {
    "one": {"kill_redis": 3, "freeze_redis": 2},
    "sentinel": {"fail_over": 2, "kill_primary": 2, "freeze_primary": 1, "kill_replica": 1},
    "cluster": {"hand_over": 3, "kill_primary": 2, "freeze_primary": 1, "kill_replica": 1, "migrate": 3},
}
RELAY_FAULTS: Final = {"hang_relay": 4, "cut_relay": 3, "lag_relay": 3, "forget_relay": 3, "lose_pushes": 4}
CLOCK_FAULTS: Final = {"step_clock": 4}
LOSSES: Final = {"flush_all": 1, "delete_key": 3}
REWINDS: Final = {"rewind_redis": 3}
# A fault as often as a bit of traffic would leave nothing to be seen between two of them.
FAULT_SHARE: Final = 0.25


def weights_of(setup: Setup) -> tuple[dict[str, int], dict[str, int]]:
    """How often each deed is drawn, relative to the others: traffic, and faults."""
    faults = {**PROCESS_FAULTS, **REDIS_FAULTS, **FAULTS[setup.topology]}
    if setup.has_relays:
        faults |= RELAY_FAULTS
    if setup.has_clock:
        faults |= CLOCK_FAULTS
    if setup.lossy:
        faults |= LOSSES | (REWINDS if setup.topology == "one" else {})
    return dict(TRAFFIC), faults


def draw_step(rng: random.Random, traffic: dict[str, int], faults: dict[str, int]) -> Step:
    """The next step."""
    table = faults if rng.random() < FAULT_SHARE else traffic
    (name,) = rng.choices(list(table), list(table.values()))
    return Step(rng.uniform(0.05, 0.7), name, rng.random(), rng.random(), rng.getrandbits(32))


class Order(NamedTuple):
    """How an answer is requested. ``way``: the surface; ``model_family``: the provider's wire.

    ``fields`` go into the body of ``/v1/generations``.
    """

    way: str
    model_family: str
    plan: Plan
    fields: dict[str, Any]
    has_webhook: bool


# Each is called on a wire of its own: Messages, chat completions, Responses.
FAMILIES: Final = ("claude", "gpt", "responses")

WAYS: Final = (
    "generations",
    "generations",
    "generations",
    "stream",
    "responses",
    "chat",
    "messages",
    "ai-sdk",
    "ag-ui",
)


def draw_order(rng: random.Random) -> Order:
    """An answer of one to six seconds."""
    deltas = rng.randint(10, 90)
    way = rng.choice(WAYS)
    tool = rng.choice((None, None, None, REPEATABLE, ONCE)) if way == "generations" else None
    troubles = tuple(rng.choices(list(Trouble), k=rng.randint(1, 2))) if rng.random() < 0.25 else ()
    plan = Plan(
        deltas=deltas,
        every_s=rng.uniform(0.5, 5.0) / deltas,
        burst=rng.choice((1, 1, 1, 5, 40)),
        padding=rng.choice((0, 0, 0, 3000)),
        tool=tool,
        troubles=troubles,
        thinks=rng.random() < 0.2,
    )
    fields: dict[str, Any] = {
        "on_provider_loss": rng.choice(("retry", "fail")),
        "on_worker_loss": "fail" if rng.random() < 0.1 else "retry",
        "on_abandon": "cancel" if rng.random() < 0.15 else "continue",
    }
    if tool is not None:
        fields["tools"] = [{"name": tool}]
    return Order(way, rng.choice(FAMILIES), plan, fields, rng.random() < 0.3)
