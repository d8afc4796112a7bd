"""The frame around the code: what is pinned, and what the README tells people to type."""

import re
import tomllib
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support import ROOT
from tests.support.deploy import pins

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
README = (ROOT / "README.md").read_text()


def test_every_requirement_is_pinned_inside_its_range() -> None:
    named = [*PROJECT["dependencies"], *(r for rs in PROJECT["optional-dependencies"].values() for r in rs)]
    requirements = [r for r in map(Requirement, named) if r.name != PROJECT["name"]]
    assert len(requirements) > 20
    for requirement in requirements:
        assert requirement.specifier.contains(pins()[canonicalize_name(requirement.name)]), requirement


def test_pins_serve_every_kind_of_machine() -> None:
    assert "splitray" not in pins()
    assert [name for name, version in pins().items() if version.local] == []


def test_readme_commands_exist() -> None:
    rules = re.findall(r"^([a-z]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    used = set(re.findall(r"^(?:\$ )?make ([a-z]+)", README, re.MULTILINE))
    assert {"demo", "test"} <= used <= set(rules)
    files = set(re.findall(r"\b(?:jobs|configs|docs)/[\w.-]+\.(?:py|yaml|md|png)", README))
    assert files and [name for name in sorted(files) if not (ROOT / name).is_file()] == []
