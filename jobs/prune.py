"""What a store of segments could do without. See `--help`."""

import sys

from splitray.cli.prune import main

if __name__ == "__main__":
    sys.exit(main())
