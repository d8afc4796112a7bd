"""The main job: a corpus and a budget in, specialists, their law and a report out. See `--help`."""

import sys

from splitray.cli.run import main

if __name__ == "__main__":
    sys.exit(main())
