"""What every command shares: its parser, the prefix of its errors, its exit codes."""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from splitray.cli.streams import outlive_readers, output_fault
from splitray.errors import SplitrayError, UserError
from splitray.runtime.extras import engines_needed
from splitray.storage.redact import refuse_secrets
from splitray.units import parse_count

DONE, FAILED, WRONG_INPUT = 0, 1, 2


class Parser(argparse.ArgumentParser):
    """Wrong arguments are a `UserError`, like every other wrong input."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


@dataclass(frozen=True)
class Command:
    """One command: of `splitray`, and of the script in `jobs/` where it has one.

    Attributes:
        summary: one sentence on what it does.
        add_arguments: adds them to the parser.
        run: does it; errors are raised.
        epilog: what `--help` ends with.
    """

    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]
    epilog: str = ""

    def main(self, arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
        """Run the command on `arguments`, by default the process's own, and return the exit code."""

        def work() -> None:
            parser = Parser(prog=prog, description=self.summary, epilog=f"{self.epilog} {_CODES}".strip())
            self.add_arguments(parser)
            _refuse_secrets(sys.argv[1:] if arguments is None else arguments)
            options = parser.parse_args(arguments)
            with engines_needed(parser.prog):
                self.run(options)

        return finish(work)


def _refuse_secrets(arguments: Sequence[str]) -> None:
    """Refuse secrets in any argument, before a message repeats them.

    Raises:
        UserError: naming the option, and where the secret belongs.
    """
    option = ""
    for argument in arguments:
        if argument.startswith("--"):
            option, _, argument = argument.partition("=")
        refuse_secrets(option or "argument", argument, _CURE)


_CURE = (
    "Put it into the environment (for s3:// AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY), or the address into the "
    "config (run_dir, store, corpus.sources, alerts.webhook), in a file that only you can read"
)
_CODES = "Exit codes: 0 done, 1 it failed, 2 the input is wrong."


def finish(work: Callable[[], None]) -> int:
    """Do the work of a command; the exit code, and what went wrong in one way on standard error."""
    outlive_readers()
    try:
        code = _finish(work)
    finally:
        fault = output_fault()  # also where --help ends the process
    if fault is not None:
        _complain(f"the output could not be written: {fault.strerror or fault}")
        return max(code, FAILED)
    return code


def _finish(work: Callable[[], None]) -> int:
    try:
        work()
    except UserError as error:
        _complain(" ".join(str(error).split()))
        return WRONG_INPUT
    except SplitrayError as error:
        _complain(str(error))
        return FAILED
    except KeyboardInterrupt as error:
        _complain(str(error) or "stopped")
        return FAILED
    return DONE


def _complain(message: str) -> None:
    print(f"splitray: {message}", file=sys.stderr, flush=True)


def count(text: str) -> float:
    """The type of an argument that is a number, written as `parse_count` reads it."""
    return float(_parsed(text))


def whole(text: str) -> int:
    """The type of an argument that is a whole number."""
    number = _parsed(text)
    if not isinstance(number, int):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return number


def _parsed(text: str) -> int | float:
    try:
        return parse_count(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
