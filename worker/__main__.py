"""``python -m worker``"""

from broadcaster.process.interrupt_end import let_interrupts_end

let_interrupts_end()  # before the other imports

import sys  # noqa: E402
from importlib import import_module  # noqa: E402

from broadcaster.errors import SetupError  # noqa: E402
from broadcaster.extras import EXIT_USAGE, check_extra  # noqa: E402
from broadcaster.process.start import uncollected  # noqa: E402

try:
    check_extra("worker")
except SetupError as error:  # before worker.main, which imports the packages
    sys.stderr.write(f"error: {error.detail}\n")
    sys.exit(EXIT_USAGE)
if arguments := sys.argv[1:]:
    sys.stderr.write(f"error: a worker takes no arguments, and got {' '.join(arguments)}; its settings are variables: ")
    sys.stderr.write("broadcaster doctor --settings lists them\n")
    sys.exit(EXIT_USAGE)
with uncollected():
    main = import_module("worker.main")
main.main()
