"""``python -m broadcaster`` is ``broadcaster``."""

from broadcaster.cli.entry import main

if __name__ == "__main__":
    main()
