"""The files under deploy/, and what the project pins and installs: for the tests that hold them together."""

import re
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
