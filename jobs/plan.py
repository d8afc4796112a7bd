"""Plan a split from a table of runs: `python jobs/plan.py RUNS --params 1.3e9 --budget 240e9 --domains 16`."""

import sys

from splitray.cli.plan import main

if __name__ == "__main__":
    sys.exit(main())
