"""The YAML that a configuration is written in, without the parts of YAML 1.1 that turn typing errors into values.

Read: what YAML 1.2 calls the core schema. `0200000` is not octal, `12:00:00` is not 43200, `no` is not false and
`2024-01-01` is not a date: all of them are text, and a field that wants a number refuses them. `1e6` is a number. A
key that is given twice is an error, where YAML's own loader lets the last one win.

Written: such that what is written reads back as the same value, here and with any YAML 1.1 reader.
"""

import re
from typing import Any

import yaml

_NULL = re.compile(r"^(?:~|null|Null|NULL|)$")
_BOOL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
_INT = re.compile(r"^[-+]?(?:0|[1-9][0-9_]*)$")
_FLOAT = re.compile(r"^[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9_]*)(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?$")
_DIGITS = 308  # of a whole number
_MERGE = re.compile(r"^<<$")
_SCHEMA = (  # the first that matches decides
    ("tag:yaml.org,2002:null", _NULL, ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", _BOOL, list("tTfF")),
    ("tag:yaml.org,2002:int", _INT, list("-+0123456789")),
    ("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789")),
    ("tag:yaml.org,2002:merge", _MERGE, ["<"]),
)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own shape

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping as it is written: later, `<<` puts the keys of others among its own."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        self._check_keys(node)
        return node

    @staticmethod
    def _check_keys(node: yaml.MappingNode) -> None:
        seen: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            line = key.start_mark.line + 1
            if (key.tag, key.value) in seen:
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    f"the key {key.value!r}, first given in line {seen[key.tag, key.value]}, is given again",
                    key.start_mark,
                )
            seen[key.tag, key.value] = line

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        given = str(self.construct_scalar(node))
        text = given.replace("_", "")
        if not (_INT.match(given) or _FLOAT.match(given)):  # it has a tag: `!!int 070`
            raise yaml.constructor.ConstructorError(None, None, f"{given!r} is not a number", node.start_mark)
        # above 1e308 no number of ours lies, and Python refuses to read thousands of digits
        return int(text) if _INT.match(text) and len(text) <= _DIGITS else float(text)


class _Dumper(yaml.SafeDumper):
    """Quotes what either schema would read as something else than text."""

    yaml_implicit_resolvers = {k: list(v) for k, v in yaml.SafeDumper.yaml_implicit_resolvers.items()}  # noqa: RUF012


for _tag, _pattern, _first in _SCHEMA:
    _Loader.add_implicit_resolver(_tag, _pattern, _first)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_number)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_number)


def read(text: bytes | str) -> Any:
    """The value of one YAML document.

    Raises:
        yaml.YAMLError: it is no YAML, has a tag of its own, or gives a key of a mapping twice.
        UnicodeDecodeError: its bytes are no UTF-8 or UTF-16.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except RecursionError:
        raise yaml.YAMLError("its lists or mappings are nested too deep") from None
    except (AttributeError, KeyError) as error:  # PyYAML's constructors on `!!bool maybe` and `!!timestamp x`
        raise yaml.YAMLError(f"a value does not fit its tag ({error!r})") from error


def write(value: Any) -> str:
    """Plain values as YAML in block style, in the order given."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True))


def inline(value: Any) -> str:
    """One value as YAML on one line, as `--set` takes it."""
    text = str(yaml.dump([value], Dumper=_Dumper, default_flow_style=True, width=10**6, allow_unicode=True))
    return text.strip()[1:-1]
