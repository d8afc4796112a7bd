"""Training on a disk that fills up: an error that names what did not fit, and no bits lost."""

from pathlib import Path

import pytest
import torch

from splitray.errors import StorageError
from splitray.storage.store import Store
from splitray.training.loop import train
from splitray.training.state import load
from splitray.training.tree import Segment
from tests.support import tiny, worlds
from tests.support.disk import fill


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


class Filling(worlds.Recorder):
    """Fills a disk before a step."""

    def __init__(self, disk: Path, before: int) -> None:
        super().__init__()
        self._disk, self._before = disk, before

    def sequences(self, source: str, start: int, count: int) -> object:
        if len(self.drawn) == self._before:
            fill(self._disk)
        return super().sequences(source, start, count)


@pytest.mark.parametrize("before", [1, worlds.STEPS - 1], ids=["checkpoint", "end"])
def test_a_disk_that_fills_up_while_training_costs_no_bits(small_disk: Path, tmp_path: Path, before: int) -> None:
    """The checkpoint or the finished state does not fit: an error that names it; with room again the same bits."""
    segment: Segment = worlds.segment_of(0, "fp32")[1]
    settings = tiny.training(checkpoint_seconds=1e-9 if before == 1 else 60.0)
    store = Store(small_disk / "store")
    with pytest.raises(StorageError, match=rf"{small_disk}/store/.*(seg-\w+-\d+).*: the disk is full"):
        train(segment, Filling(small_disk, before), store, settings)
    assert store.find(segment.key) is None
    (small_disk / "ballast").unlink()
    ours = load(train(segment, worlds.Recorder(), store, settings))
    theirs = load(train(segment, worlds.Recorder(), Store(tmp_path / "large"), settings))
    assert all(torch.equal(ours.weights[n], w) for n, w in theirs.weights.items())


def test_a_full_temporary_folder_is_said(small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segment: Segment = worlds.segment_of(0, "fp32")[1]
    fill(small_disk)
    monkeypatch.setattr("tempfile.tempdir", str(small_disk))
    with pytest.raises(
        StorageError, match=rf"the temporary folder {small_disk}.*takes no weights\.safetensors of seg-"
    ):
        train(segment, worlds.Recorder(), Store(tmp_path), tiny.training())
    assert Store(tmp_path).find(segment.key) is None
