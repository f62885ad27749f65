from collections.abc import Sequence

from broadcaster.hub.live.writes import Shortfall, Write

def write_batch(batch: Sequence[Write], /) -> list[Shortfall]: ...
