"""`splitray serve RUN`: the specialists of a run behind an OpenAI-style API."""

import argparse
import contextlib
import signal
import sys
from types import FrameType

from pydantic import ValidationError

from splitray.cli.command import Command
from splitray.errors import UserError
from splitray.serve.needs import check_installed
from splitray.serve.settings import ServeSettings


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="path or URI of a finished run's folder")
    for name, field in ServeSettings.model_fields.items():
        told = f"{field.description} Default: {field.default}."
        parser.add_argument(f"--{name.replace('_', '-')}", metavar=name.upper(), help=told)


def _run(options: argparse.Namespace) -> None:
    settings = _settings(options)
    check_installed(settings.engine)
    from splitray.executor.access import listen_on_loopback
    from splitray.executor.connect import connected
    from splitray.serve.deployment import deploy, server_token, wait_for_end

    token, fresh = server_token()
    listen_on_loopback()
    with connected():
        signal.signal(signal.SIGTERM, _interrupt)
        deploy(options.run, settings, token)
        where = f"http://{settings.host}:{settings.port}"
        print(f"{where}/v1 answers as OpenAI's API does; its models are auto, base and each domain")
        print(f"token: {token}" if fresh else "token: that of SPLITRAY_SERVE_TOKEN")
        if settings.engine == "transformers":  # an engine tells no shares, which are what the page is for
            print(f"in a browser: {where}/#{token if fresh else ''}")
        print("Ctrl-C stops it, when what is being written is finished")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            wait_for_end()
        print("stopped")


def _settings(options: argparse.Namespace) -> ServeSettings:
    given = {name: value for name in ServeSettings.model_fields if (value := getattr(options, name)) is not None}
    try:
        return ServeSettings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"--{str(first['loc'][0]).replace('_', '-')} {first['input']}: {first['msg']}") from error


def _interrupt(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends the server as Ctrl-C does: what is being written is finished."""
    raise KeyboardInterrupt("stopped")


COMMAND = Command("Serve a finished run's specialists behind an OpenAI-style API.", _add_arguments, _run)
main = COMMAND.main
