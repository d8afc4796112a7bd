"""The files for SkyPilot and dstack: their own parsers where they are installed, which is not here by default.

Each brings a server and the clients of every cloud, so neither is a dependency of the tests. To run these:
`pip install skypilot dstack` in an environment of its own, beside pytest.
"""

import re
from typing import Any

import pytest
import yaml

import splitray
from tests.support import ROOT
from tests.support.deploy import DEPLOY, image_tag

SKY, DSTACK = DEPLOY / "skypilot/splitray.yaml", DEPLOY / "dstack/splitray.dstack.yml"


def test_skypilot_reads_its_file() -> None:
    sky = pytest.importorskip("sky", reason="needs SkyPilot: pip install skypilot")
    task = sky.Task.from_yaml(str(SKY))
    assert task.num_nodes == 2 and {r.use_spot for r in task.resources} == {True, False}
    assert all(r.accelerators == {"A100-80GB": 8} for r in task.resources)


def test_dstack_reads_its_file() -> None:
    configurations = pytest.importorskip("dstack._internal.core.models.configurations", reason="needs dstack")
    task = configurations.parse_run_configuration(yaml.safe_load(DSTACK.read_text()))
    assert task.type == "task" and task.nodes == 2 and task.resources.gpu.count.min == 8
    assert task.image.endswith(image_tag())


@pytest.mark.parametrize("path", [SKY, DSTACK], ids=["skypilot", "dstack"])
def test_run_continues_from_a_bucket_and_its_token_is_no_file(path: Any) -> None:
    text = path.read_text()
    (config,) = re.findall(r"CONFIG[:=] ?(\S+)", text)
    splitray.load_config(ROOT / config)
    assert re.search(r"BUCKET[:=] ?s3://BUCKET-REPLACE", text)
    assert re.search(r"RAY_AUTH_TOKEN(: null|\s+#)", text), "a token in a file ends in a repository"
    document = yaml.safe_load(text)
    nodes = document.get("num_nodes") or document["nodes"]
    assert nodes >= 2
    started = document.get("run") or "\n".join(document["commands"])
    assert "RAY_ADDRESS" in started, "without it the run starts a Ray of its own beside this one"
