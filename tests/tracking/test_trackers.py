"""What trackers write, read back by the tools that people read it with; and trackers that fail."""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imsave
from pyarrow import fs

from splitray.config import Config
from splitray.errors import UserError
from splitray.pipeline.run_folder import RunFolder
from splitray.pipeline.tracking import tracked
from splitray.results.stages import LadderResult, ReportResult
from splitray.runtime.points import Point, publish
from splitray.storage.folder import Folder
from splitray.tracking import Tracker, register_tracker, registry
from splitray.tracking.feed import Feed
from splitray.tracking.tracker import TrackedRun, TrackerSettings
from tests.support.configs import PLAIN

PLUGIN = "tests.support.tracker"  # what docs/extending.md shows
log = logging.getLogger("splitray.a_test")
LADDER = LadderResult(4, 3, 1000, 2000, 2.0, 1)
SERIES = ("232K-mixture-aaaaaaaa", "232K-0_sea & ship-bbbbbbbb")


def point(number: int, step: int) -> Point:
    source = ("mixture", "0_sea & ship")[number]
    return Point(f"seg-{number}", "ab"[number] * 8, source, 232_448, 64 * step, 4.0 - step / 10, 1e-3, 500.0)


def run(folder: Path, *entries: dict[str, Any]) -> RunFolder:
    return RunFolder(Folder(folder), Config(**PLAIN | {"trackers": list(entries)}))


def told(of: RunFolder) -> None:
    """A start that trains two segments and ends a stage, as the stages of a run log it."""
    with tracked(of):
        for step in (1, 2, 3):
            for number in (0, 1):
                publish(log, point(number, step))
        of.carry_out("ladder", lambda: _ladder(of), lambda: None)


def _ladder(of: RunFolder) -> LadderResult:
    of.keep("table.json", lambda path: path.write_text("{}"))
    return LADDER


def reported(of: RunFolder) -> None:
    """A start whose stage report leaves a page and a figure."""

    def page() -> ReportResult:
        of.keep("report/index.html", lambda path: path.write_text("<p>page</p>"))
        imsave(tmp := of.folder.local_path("picture.png"), [[[0.0, 0.5, 1.0]] * 4] * 3)
        of.folder.put(tmp, "report/figures/comparison.png")
        return ReportResult("report/index.html")

    with tracked(of):
        publish(log, point(0, 1))
        of.carry_out("report", page, lambda: None)


def test_jsonl_has_every_look(tmp_path: Path) -> None:
    told(run(tmp_path, {"name": "jsonl"}))
    lines = [json.loads(line) for line in (tmp_path / "trackers/jsonl/metrics.jsonl").read_text().splitlines()]
    assert [(x["series"], x["tokens"], x["loss"]) for x in lines][::2] == [
        (SERIES[0], 64, 3.9),
        (SERIES[0], 128, 3.8),
        (SERIES[0], 192, 3.7),
    ]
    assert {(x["series"], x["segment"]) for x in lines} == {(SERIES[0], "seg-0"), (SERIES[1], "seg-1")}
    results = [json.loads(line) for line in (tmp_path / "trackers/jsonl/results.jsonl").read_text().splitlines()]
    assert results[0]["ladder/saving"] == 2.0


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    told(run(tmp_path, {"name": "tensorboard"}))
    events = accumulator.EventAccumulator(str(tmp_path / "trackers/tensorboard"))
    events.Reload()
    names = set(events.Tags()["scalars"])
    assert len([n for n in names if n.startswith("loss/232K-")]) == 2, names
    curve = [(e.step, round(e.value, 4)) for e in events.Scalars(f"loss/{SERIES[0]}")]
    assert curve == [(64, 3.9), (128, 3.8), (192, 3.7)]
    assert events.Scalars("results/ladder/saving")[0].value == 2.0
    assert events.Scalars(f"learning_rate/{SERIES[0]}")[0].value == pytest.approx(1e-3)


def test_tensorboard_has_the_segments_and_the_figures(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    reported(run(tmp_path, {"name": "tensorboard"}))
    events = accumulator.EventAccumulator(str(tmp_path / "trackers/tensorboard"))
    events.Reload()
    (picture,) = events.Images("report/figures/comparison")
    assert (picture.width, picture.height) == (4, 3)
    (text,) = events.Tensors(f"segment/{SERIES[0]}/text_summary")
    facts = json.loads(text.tensor_proto.string_val[0])
    assert facts == {"key": "seg-0", "source": "mixture", "params": 232_448}


def test_tensorboard_on_an_object_store_is_read_back(s3: str, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    told(run(tmp_path / "run", {"name": "tensorboard", "folder": s3}))
    told(run(tmp_path / "again", {"name": "tensorboard", "folder": s3}))
    bucket = Folder(s3)
    assert len(bucket.names()) == 2, "each start writes a file of its own"
    (tmp_path / "down").mkdir()
    for name in bucket.names():
        (tmp_path / "down" / name).write_bytes(bucket.read(name))
    events = accumulator.EventAccumulator(str(tmp_path / "down"))
    events.Reload()
    assert [round(e.value, 4) for e in events.Scalars(f"loss/{SERIES[0]}")][:3] == [3.9, 3.8, 3.7]
    assert "secret" not in (tmp_path / "run/config.yaml").read_text()


@pytest.fixture
def s3() -> Iterator[str]:
    """A folder on an S3 server."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    place = "{}:{}".format(*server.get_host_and_port())
    fs.S3FileSystem(
        access_key="key", secret_key="secret", endpoint_override=place, scheme="http", allow_bucket_creation=True
    ).create_dir("tracked")
    yield f"s3://key:secret@tracked/tb?scheme=http&endpoint_override={place}&region=us-east-1"
    server.stop()


def test_one_that_writes_to_a_disk_refuses_an_object_store(tmp_path: Path, s3: str) -> None:
    with (
        pytest.raises(UserError, match=r"trackers\.0\.folder: s3://tracked/tb is on no local disk"),
        tracked(run(tmp_path, {"name": "jsonl", "folder": s3})),
    ):
        pass


def test_workers_import_no_tracker() -> None:
    """MLflow alone would cost each of them seconds."""
    code = (
        "import sys, splitray.executor.worker, splitray.config\n"
        "print([m for m in ('mlflow', 'wandb', 'tensorboardX', 'tensorboard') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


@pytest.mark.slow  # it makes the tables of its database
def test_mlflow_reads_what_was_written_and_goes_on_with_its_run(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    pytest.importorskip("alembic")
    from mlflow import MlflowClient

    told(run(tmp_path, {"name": "mlflow", "experiment": "proof"}))
    with tracked(run(tmp_path, {"name": "mlflow", "experiment": "proof"})):  # a second start
        publish(log, point(0, 4))
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'trackers/mlflow/mlflow.db'}")
    experiment = client.get_experiment_by_name("proof")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED" and found.data.params["budget"] == "65536"
    curve = client.get_metric_history(found.info.run_id, f"loss/{SERIES[0]}")
    assert sorted((m.step, round(m.value, 4)) for m in curve) == [(64, 3.9), (128, 3.8), (192, 3.7), (256, 3.6)]
    assert f"loss/{SERIES[1].replace('&', '_')}" in found.data.metrics
    assert found.data.metrics["ladder/saving"] == 2.0
    assert found.data.tags[f"segment/{SERIES[0]}"] == "seg-0"
    reported(run(tmp_path, {"name": "mlflow", "experiment": "proof"}))
    assert {f.path for f in client.list_artifacts(found.info.run_id)} == {"table.json", "report"}
    assert [f.path for f in client.list_artifacts(found.info.run_id, "report/figures")] == [
        "report/figures/comparison.png"
    ]


@pytest.fixture
def no_wandb_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)


def leveldb_records(data: bytes) -> Iterator[bytes]:
    """Records of a log as LevelDB writes them (log_format.md): in blocks of 32 KiB, each piece with 7 bytes before."""
    place, record = 0, b""
    while place + 7 <= len(data):
        if (left := 32768 - (place + 7) % 32768) < 7:  # the file's own header lies in the first block
            place += left
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield record
            record = b""


def test_wandb_is_offline_and_has_every_look(tmp_path: Path, no_wandb_mode: None) -> None:
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    told(run(tmp_path, {"name": "wandb"}))
    (file,) = (tmp_path / "trackers/wandb/wandb").glob("offline-run-*/*.wandb")
    curve, summary = list[dict[str, Any]](), dict[str, Any]()
    for data in leveldb_records(file.read_bytes()[7:]):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        for item in record.summary.update:
            summary["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
        row = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
        if f"loss/{SERIES[0]}" in row:
            curve.append(row)
    assert [(r[f"tokens/{SERIES[0]}"], r[f"loss/{SERIES[0]}"]) for r in curve] == [(64, 3.9), (128, 3.8), (192, 3.7)]
    assert summary["ladder/saving"] == 2.0
    assert summary[f"segment/{SERIES[0]}"] == "seg-0"


def test_the_tracker_of_the_extending_page_runs(own: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, PLUGIN, raising=False)
    of = RunFolder(Folder(tmp_path), Config(**PLAIN | {"plugins": [PLUGIN], "trackers": [{"name": "best"}]}))
    told(of)
    best = json.loads((tmp_path / "trackers/best/best.json").read_text())
    assert best == {series: pytest.approx(3.7) for series in SERIES}


@pytest.fixture
def own() -> Iterator[None]:
    """Trackers of a test only while it lasts."""
    before = dict(registry.REGISTRY)
    yield
    registry.REGISTRY.clear()
    registry.REGISTRY.update(before)


def failing(where: str) -> None:
    @register_tracker
    class Failing(Tracker):
        name = "failing"

        def __init__(self, settings: Any, run: TrackedRun) -> None:
            super().__init__(settings, run)
            self._at("start")

        def _at(self, place: str) -> None:
            if where == place:
                raise OSError(f"no room at {place}")

        def metrics(self, series: str, values: Mapping[str, float], tokens: int) -> None:
            self._at("metrics")

        def results(self, values: Mapping[str, float | str]) -> None:
            self._at("results")

        def file(self, path: Path, name: str) -> None:
            self._at("file")

        def close(self) -> None:
            self._at("close")


@pytest.mark.parametrize("where", ["start", "metrics", "results", "file", "close"])
def test_one_that_fails_is_a_warning_once_and_the_others_go_on(
    own: None, tmp_path: Path, logged: list[str], where: str
) -> None:
    failing(where)
    told(run(tmp_path, {"name": "failing"}, {"name": "jsonl"}))
    (warning,) = [line for line in logged if "failing" in line]
    assert "goes on without it: OSError: no room at" in warning
    assert len((tmp_path / "trackers/jsonl/metrics.jsonl").read_text().splitlines()) == 6
    assert (tmp_path / "stages/ladder.json").exists()


def test_one_that_hangs_holds_nobody(own: None, tmp_path: Path, logged: list[str]) -> None:
    over = threading.Event()

    @register_tracker
    class Hanging(Tracker):
        name = "hanging"

        def metrics(self, series: str, values: Mapping[str, float], tokens: int) -> None:
            over.wait(60)

    feed = Feed(TrackerSettings(name="hanging"), TrackedRun("t", "k", tmp_path, {}))
    began = time.monotonic()
    for _ in range(10_100):
        feed.put(lambda tracker: tracker.metrics("x", {}, 0))
    feed.close(patience=0.2)
    over.set()
    assert time.monotonic() - began < 30
    assert len([line for line in logged if "hanging" in line]) == 1


def test_a_remote_run_folder_needs_a_local_folder_for_trackers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of = run(tmp_path, {"name": "jsonl"})
    monkeypatch.setattr(type(of.folder), "is_local", False)
    with pytest.raises(UserError, match=r"trackers\.0\.folder"), tracked(of):
        pass


def test_an_end_by_an_error_still_closes(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), tracked(run(tmp_path, {"name": "jsonl"})):
        publish(log, point(0, 1))
        raise KeyboardInterrupt
    assert (tmp_path / "trackers/jsonl/metrics.jsonl").read_text()
    assert not [t for t in threading.enumerate() if t.name.startswith("tracker ")]
