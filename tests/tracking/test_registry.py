"""Entries of `trackers` in a configuration: names, fields, packages, and what they leave alone."""

import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import yaml

from splitray.config import Config, dump, load, parse
from splitray.errors import UserError
from splitray.runtime import plugins
from splitray.tracking import Tracker, registry
from splitray.tracking.mlflow import MlflowSettings
from tests.support.configs import PLAIN

PLUGIN = "tests.support.tracker"  # what docs/extending.md shows


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(PLAIN | changes))
    return path


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package's own trackers, and those of a test only while it lasts."""
    monkeypatch.setattr(registry, "REGISTRY", {k: v for k, v in registry.REGISTRY.items() if k != "best"})
    monkeypatch.delitem(sys.modules, PLUGIN, raising=False)


def test_an_entry_has_its_trackers_fields_and_comes_back_from_yaml(tmp_path: Path) -> None:
    config = load(written(tmp_path, trackers=[{"name": "mlflow", "experiment": "mine"}, {"name": "jsonl"}]))
    first, second = config.trackers
    assert isinstance(first, MlflowSettings) and first.experiment == "mine" and second.folder is None
    assert parse(dump(config).encode(), "again") == config


def test_trackers_change_no_key(tmp_path: Path) -> None:
    plain, tracked = Config(**PLAIN), load(written(tmp_path, trackers=[{"name": "jsonl"}]))
    assert plain.identity() == tracked.identity() and plain.refit() == tracked.refit()


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"name": "tensorbord"}, ["trackers.0.name", "did you mean tensorboard?", "plugins"]),
        ({"name": "mlflow", "experimnt": "x"}, ["trackers.0.experimnt: unknown key", "did you mean experiment?"]),
        ({"name": "wandb", "mode": "on"}, ["trackers.0.mode", "offline"]),
        ({"folder": "x"}, ["trackers.0.name is missing"]),
        ("tensorboard", ["trackers.0: a section of keys is expected"]),
    ],
)
def test_a_wrong_entry_is_named(tmp_path: Path, entry: object, words: list[str]) -> None:
    with pytest.raises(UserError) as raised:
        load(written(tmp_path, trackers=[entry]))
    assert all(word in str(raised.value) for word in words), raised.value


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_a_missing_package_is_refused_when_the_config_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = written(tmp_path, trackers=[{"name": "jsonl"}, {"name": name}])
    monkeypatch.setattr(registry, "find_spec", lambda module: None)
    with pytest.raises(UserError, match=rf"trackers\.1\.name: {name} needs the package .*: pip install"):
        load(path)
    # the config in a run folder may be another machine's
    assert parse(path.read_bytes(), "run folder").trackers[1].name == name


def test_one_of_the_users_own_is_known_by_its_plugin_or_its_entry_point(
    fresh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="'best' is not known"):
        load(written(tmp_path, trackers=[{"name": "best"}]))
    assert load(written(tmp_path, trackers=[{"name": "best"}], plugins=[PLUGIN])).trackers[0].name == "best"
    monkeypatch.setattr(registry, "REGISTRY", {})
    offered = EntryPoint("best", f"{PLUGIN}:Best", registry.GROUP)
    monkeypatch.setattr(plugins, "entry_points", lambda group, name=None: [offered] if name in (None, "best") else [])
    assert load(written(tmp_path, trackers=[{"name": "best"}])).trackers[0].name == "best"


def test_two_of_one_name_are_refused(fresh: None) -> None:
    class Other(Tracker):
        name = "jsonl"

        def metrics(self, series: str, values: object, tokens: int) -> None:
            pass

    with pytest.raises(UserError, match="two trackers are named 'jsonl'"):
        registry.register_tracker(Other)
