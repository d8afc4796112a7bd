"""What four gloo processes train for test_zero.py: `python fours.py STORE RANK`. STORE/to-four holds a pair's state."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from splitray.storage.store import Attempt, Store
from splitray.training.loop import train
from tests.support import tiny, worlds

WORLD, DIES = 4, 2


class Dying(Attempt):
    """Whose writer is killed when its shard is written, and before anybody knows."""

    @property
    def folder(self) -> Any:
        return self._folder

    @folder.setter
    def folder(self, folder: Any) -> None:
        self._folder = folder
        put = folder.put

        def put_and_die(source: Path, name: str) -> None:
            put(source, name)
            os.kill(os.getpid(), signal.SIGKILL)

        folder.put = put_and_die


class Deadly(Store):
    """Kills the process in its second checkpoint."""

    parts = 0

    def attempt(self, key: str, nonce: str | None = None) -> Attempt:
        self.parts += key.startswith("part-")
        return Dying(self, key, nonce) if self.parts == 2 else super().attempt(key, nonce)


def main(root: Path, rank: int) -> dict[str, Any]:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.FileStore(str(root / "meet-four"), WORLD), rank=rank, world_size=WORLD)
    said: dict[str, Any] = {}
    for stage in (0, 1, 2, 3):
        settings, segment = worlds.segment_of(stage, "fp32")
        recorder = worlds.Recorder()
        train(segment, recorder, Store(root / f"four-{stage}"), settings, recorder.hooks)
        said[str(stage)] = recorder.steps
    said["to-four"] = worlds.end_with(root, "to-four", 2)
    (root / f"said-four-{rank}.json").write_text(json.dumps(said))
    dist.barrier()
    store = Deadly(root / "killed") if rank == DIES else Store(root / "killed")
    settings, segment = worlds.segment_of(1, "fp32")
    every_step = tiny.training(zero_stage=1, checkpoint_seconds=1e-9)
    train(segment, tiny.order(), store, every_step)
    return said


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
