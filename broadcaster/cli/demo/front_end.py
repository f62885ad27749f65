"""The front-end of `broadcaster demo`: the one of `serve`, with the routes of the demo's buttons.

``python -m broadcaster.cli.demo.front_end``, started as ``broadcaster.cli.processes.front_end`` is.
"""

from __future__ import annotations

import sys

from broadcaster.cli.demo.faults import FaultChannel
from broadcaster.cli.processes.front_end import main

if __name__ == "__main__":
    main(sys.argv[1:], demo_over=FaultChannel)
