"""The autoscaling benchmark without its cluster: Ray takes its file, the cloud refuses a type, claims can fail."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.autoscaling import HEAD, HEAD_TYPE, REFUSAL, Look, changes, claims, clean, description

STAGES = [{"stage": "corpus", "began": 10.0, "ended": 20.0}, {"stage": "ladder", "began": 20.0, "ended": 40.0}]


def look(at: float, small: int, trainer: int) -> Look:
    return Look(at, {"small": small, "trainer": trainer}, {"small": 0, "trainer": 0}, [], {})


GOOD = [look(5, 0, 0), look(15, 2, 0), look(25, 1, 0), look(35, 0, 2), look(60, 0, 0)]


def test_rays_autoscaler_takes_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.autoscaler._private.providers import _get_node_provider
    from ray.autoscaler.v2.instance_manager.config import FileConfigReader

    monkeypatch.setenv("RAY_FAKE_CLUSTER", "1")
    refused, file = tmp_path / "refused", tmp_path / "cluster.yaml"
    file.write_text(yaml.safe_dump(description("127.0.0.1:7", refused)))
    read = FileConfigReader(str(file), skip_content_hash=True).get_cached_autoscaling_config()
    kinds = read.get_node_type_configs()
    assert {name: (k.min_worker_nodes, k.max_worker_nodes) for name, k in kinds.items() if name != HEAD_TYPE} == {
        "small": (0, 2),
        "trainer": (0, 2),
    }
    assert kinds[HEAD_TYPE].resources["CPU"] == 0 and read.get_head_node_type() == HEAD_TYPE
    assert read.disable_node_updaters() and read.get_idle_timeout_s() == 15
    cloud = _get_node_provider(read.get_provider_config(), "grow")
    assert cloud.node_tags(HEAD)["ray-user-node-type"] == HEAD_TYPE
    refused.touch()
    with pytest.raises(RuntimeError, match=REFUSAL):
        cloud.create_node_with_resources_and_labels({}, {"ray-user-node-type": "trainer"}, 1, {"CPU": 2}, {})
    assert list(cloud.non_terminated_nodes({})) == [HEAD]


def test_a_good_run_meets_every_claim() -> None:
    assert all(claims(GOOD, STAGES, 50.0, 0, f"... {REFUSAL} ...").values())


@pytest.mark.parametrize(
    ("changed", "claim"),
    [
        ({"code": 1}, "the run ends well"),
        ({"log": "nothing"}, "the log names the type that cannot be had"),
        ({"looks": [look(5, 1, 0), *GOOD[1:]]}, "there is no node before the run"),
        ({"looks": [GOOD[0], *GOOD[2:]]}, "it grows for the corpus"),
        ({"looks": [*GOOD[:3], GOOD[-1]]}, "it grows for training once there are some"),
        ({"looks": [*GOOD[:3], look(35, 1, 2), GOOD[-1]]}, "nodes of the corpus go while it trains"),
        ({"looks": [*GOOD[:-1], look(60, 0, 1)]}, "all nodes go after the run"),
    ],
)
def test_each_claim_can_fail(changed: dict[str, Any], claim: str) -> None:
    given: dict[str, Any] = {"looks": GOOD, "stages": STAGES, "ended": 50.0, "code": 0, "log": REFUSAL} | changed
    assert claim in [name for name, holds in claims(**given).items() if not holds]


def test_a_log_that_is_kept_names_no_place_of_this_machine(tmp_path: Path) -> None:
    assert clean(f"\x1b[31mread {tmp_path}/corpus\x1b[0m", tmp_path) == "read FOLDER/corpus"
    ends = "22:51:27,836 VINFO -- Send termination request to `/tmp/ray/session/raylet`\n"
    assert clean(f"a\n{ends}b\n", tmp_path) == "a\nb\n"


def test_looks_that_saw_nothing_new_are_left_out_but_the_last() -> None:
    looks = [look(1, 0, 0), look(2, 0, 0), look(3, 1, 0), look(4, 1, 0), look(5, 0, 0), look(6, 0, 0)]
    assert [kept.at for kept in changes(looks)] == [1, 3, 5, 6]
