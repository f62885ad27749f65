"""Every scenario, in the order in which a whole run goes through them."""

from __future__ import annotations

from typing import Final

from bench.plan import Scenario
from bench.scenarios.curves import by_primaries, by_rate, by_streams, by_viewers
from bench.scenarios.dialects import by_dialect
from bench.scenarios.end_to_end import end_to_end
from bench.scenarios.fan_out import w1, w2
from bench.scenarios.holding import memory, stalled
from bench.scenarios.processes import by_processes
from bench.scenarios.replay import reconnect, w3
from bench.scenarios.startup import SCENARIO as STARTUP
from bench.scenarios.startup import starts
from bench.scenarios.writing import appends, worker

ALL: Final = (
    Scenario("w1", "one stream, many viewers", w1),
    Scenario("w2", "many streams, two viewers each", w2),
    Scenario("w3", "replay to many viewers at once, cold", w3),
    Scenario("memory", "idle viewers: memory, and what a connection costs", memory),
    Scenario("stalled", "viewers that stop reading, and the others", stalled),
    Scenario("dialects", "every dialect beside native", by_dialect),
    Scenario("reconnect", "every viewer of a front-end that died comes to another one", reconnect),
    Scenario("processes", "several front-end processes", by_processes),
    Scenario("appends", "what Redis pays for an event", appends),
    Scenario("worker", "what a worker pays for an event", worker),
    Scenario("e2e", "from the provider's byte to the viewer's socket", end_to_end),
    Scenario(STARTUP, "from exec to ready, and from a killed worker to its answer moving again", starts),
    Scenario("viewers", "how cost grows with viewers", by_viewers),
    Scenario("streams", "how cost grows with streams", by_streams),
    Scenario("primaries", "how cost changes with the primaries of a cluster", by_primaries),
    Scenario("rate", "how cost changes with events a second", by_rate),
)
