"""`python -m splitray` is the command `splitray`."""

import sys

from splitray.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
