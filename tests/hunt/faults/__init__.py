"""What breaks, one method for each name in the tables of ``draw``. One fault at a time for one process or server."""

from tests.hunt.faults.nodes import NodeFaults
from tests.hunt.faults.processes import ProcessFaults
from tests.hunt.faults.redis import RedisFaults
from tests.hunt.faults.relays import RelayFaults


class Faults(ProcessFaults, RedisFaults, RelayFaults, NodeFaults):
    """All of them."""
