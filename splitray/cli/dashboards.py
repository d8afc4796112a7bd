"""`splitray dashboards`: the run's dashboard, for Ray's own set-up of Grafana or any other."""

import argparse
import json
import os
from pathlib import Path

from splitray.cli.command import Command
from splitray.dashboards import dashboard, write_dashboard

# Ray's variable for the folder, and where it lies without it: below the folder of the session that runs on this machine
_VARIABLE = "RAY_METRICS_GRAFANA_DASHBOARD_OUTPUT_DIR"
_DEFAULT = Path("/tmp/ray/session_latest/metrics/grafana/dashboards")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", metavar="FOLDER", help=f"default: ${_VARIABLE}, else that of the Ray on this machine")
    parser.add_argument("--print", action="store_true", help="print the JSON and write nothing")


def _run(options: argparse.Namespace) -> None:
    if options.print:
        print(json.dumps(dashboard(), indent=1))
        return
    folder = Path(options.to or os.environ.get(_VARIABLE) or _DEFAULT).expanduser()
    print(write_dashboard(folder))


COMMAND = Command(
    "Write the dashboard of a run for Grafana.",
    _add_arguments,
    _run,
    "Grafana reads it again by itself where it is set up by Ray's files.",
)
main = COMMAND.main
