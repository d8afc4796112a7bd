"""The study: does filtering for a domain pay, at which size and compute? See `--help`."""

import sys

from splitray.cli.study import main

if __name__ == "__main__":
    sys.exit(main())
