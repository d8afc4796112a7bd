"""The files under deploy/, and what the project pins and installs: for the tests that hold them together."""

import argparse
import importlib
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.support import ROOT

DEPLOY = ROOT / "deploy"


def pins() -> dict[str, Version]:
    """The versions of constraints.txt by normalized name."""
    found: dict[str, Version] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            (specifier,) = requirement.specifier
            assert specifier.operator == "==" and requirement.url is None, line
            found[canonicalize_name(requirement.name)] = Version(specifier.version)
    return found


def version() -> str:
    """That of this project."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def extras() -> set[str]:
    return set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])


def documents(path: Path) -> list[Any]:
    """The documents of a YAML file."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document is not None]


def installed_extras(text: str) -> list[list[str]]:
    """The extras of every `'.[a,b]'` of a text."""
    return [found.split(",") for found in re.findall(r"'\.\[([\w,]+)\]'", text)]


def image_tag() -> str:
    """The tag of our image: what decides whether two nodes may work together."""
    return f"{version()}-ray{pins()['ray']}-torch{pins()['torch']}"


def parsed_command(words: list[str]) -> argparse.Namespace:
    """The options of a `splitray ...` or `python jobs/NAME.py ...`, read by the command's own parser.

    Raises:
        UserError: the parser refuses the words.
    """
    from splitray.cli.command import Parser
    from splitray.cli.main import COMMANDS

    if words[:1] == ["splitray"]:
        name, rest = words[1], words[2:]
    else:
        assert words[0] in ("python", "python3"), words
        path = Path(words[1])
        assert (ROOT / "jobs" / path.name).is_file(), words
        name, rest = {"split": "run"}.get(path.stem, path.stem), words[2:]
    parser = Parser(prog=name)
    importlib.import_module(COMMANDS[name][0]).COMMAND.add_arguments(parser)
    return parser.parse_args(rest)


def tool(name: str) -> str:
    """A command of the environment that runs the tests, which need not be on the PATH."""
    return str(Path(sys.executable).with_name(name))
