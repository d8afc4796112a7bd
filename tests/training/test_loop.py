"""The one loop in this process: against a plain PyTorch loop, against damage, and when it is stopped."""

import hashlib
import math
import os
import signal
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from splitray.errors import CorruptError, StorageError
from splitray.storage.checksum import checksummed, verified
from splitray.storage.store import Store
from splitray.training import engine as engines
from splitray.training import warm
from splitray.training.loop import Hooks, Interrupted, NonFiniteLossError, train
from splitray.training.model import build
from splitray.training.process import join_world
from splitray.training.state import State, load, load_weights, publish
from splitray.training.tree import MIXTURE, Leaf, Segment
from tests.support import ROOT, tiny, worlds

SETTINGS = tiny.training()
RECIPE = tiny.make_recipe(SETTINGS)
BATCH = RECIPE.batch_tokens


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


# an independent loop: data order, schedule, clipping and AdamW written anew from DESIGN.md and Loshchilov & Hutter


def shuffled(count: int, *parts: object) -> np.ndarray:
    key = hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:16]
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little"))).permutation(count)


def batches_of(leaf: Leaf, one_in: int | None = None) -> list[np.ndarray]:
    """Every global batch of a leaf, [4, 17], sliced out of the token arrays; seed 0, equal weights, one epoch.

    After the split, one sequence in so many is the mixture's next one.
    """
    windows = {
        name: np.stack([s[i : i + 17] for s in shards for i in range(0, len(s) - 16, 16)])
        for name, shards in tiny.arrays().items()
    }
    front = {name: list(shuffled(len(w), 0, name, 0)) for name, w in windows.items()}
    picks = np.array(["a"] * 512 + ["b"] * 512)[shuffled(1024, 0, MIXTURE, 0)]
    mixture, taken = [], {"a": 0, "b": 0}
    for name in picks[:200]:
        mixture.append(windows[name][front[name][taken[name] % len(windows[name])]])
        taken[name] += 1
    rows = mixture[: leaf.pretrain_tokens // 16]
    if leaf.domain:
        replayed = iter(mixture[leaf.pretrain_tokens // 16 :])
        own = (windows[leaf.domain][w] for w in front[leaf.domain][::-1])
        for place in range(1, leaf.specialize_tokens // 16 + 1):
            rows.append(next(replayed if one_in and place % one_in == 0 else own))
    return [np.stack(rows[i : i + 4]).astype(np.int64) for i in range(0, len(rows), 4)]


def plain_loop(leaf: Leaf, one_in: int | None = None) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Losses of every step and the final weights, fp32, no DeepSpeed, no torch.optim."""
    model = build(RECIPE)
    params = dict(model.named_parameters())
    first, second = ({n: torch.zeros_like(p) for n, p in params.items()} for _ in range(2))
    losses, total = [], leaf.tokens
    start = total - round(0.25 * total / 64) * 64
    for step, batch in enumerate(batches_of(leaf, one_in), 1):
        tokens = torch.from_numpy(batch)
        logits = model(input_ids=tokens[:, :-1], use_cache=False).logits.float()
        chosen = logits.log_softmax(-1).gather(-1, tokens[:, 1:, None])
        loss = -chosen.mean()
        losses.append(loss.item())
        model.zero_grad()
        loss.backward()
        gradients = {n: p.grad for n, p in params.items() if p.grad is not None}
        norm = math.sqrt(sum(float((g.double() ** 2).sum()) for g in gradients.values()))
        rate = 1e-2 * min(1, 64 * step / 128) * (1 - 0.95 * max(0, 64 * step - start) / (total - start))
        with torch.no_grad():
            for name, p in params.items():
                g = gradients[name] * min(1.0, 1.0 / norm)
                first[name] += 0.1 * (g - first[name])
                second[name] += 0.05 * (g * g - second[name])
                if p.dim() >= 2:
                    p *= 1 - rate * 0.1
                p -= rate * (first[name] / (1 - 0.9**step)) / ((second[name] / (1 - 0.95**step)).sqrt() + 1e-8)
    return losses, {n: p.detach() for n, p in params.items()}


@pytest.mark.parametrize(("stage", "one_in"), [(0, None), (1, None), (0, 5)])
def test_losses_equal_a_plain_loop_across_branch_and_decay(tmp_path: Path, stage: int, one_in: int | None) -> None:
    """20 steps: 12 of the mixture, 8 of a domain, the decay over the last 5; a branch for either domain.

    The last case replays every fifth sequence: 6 of 32, which lie anywhere in their batches.
    """
    settings, store = tiny.training(zero_stage=stage), Store(tmp_path)
    leaves = [Leaf(12 * BATCH, 8 * BATCH, d) for d in ("a", "b")]
    said: dict[str, list[tuple[int, float, float]]] = {}
    replay = 1 / one_in if one_in else 0.0
    for segment in tiny.segments(RECIPE, *leaves, replay=replay):
        recorder = worlds.Recorder()
        train(segment, recorder, store, settings, recorder.hooks)
        said[segment.key] = recorder.steps
    for leaf in leaves:
        chain = [s.key for s in tiny.segments(RECIPE, leaf, replay=replay)]
        losses, weights = plain_loop(leaf, one_in)
        ours = [loss for segment in chain for _, loss, _ in said[segment]]
        assert len(ours) == len(losses) == 20
        np.testing.assert_allclose(ours, losses, rtol=0, atol=1e-5)
        found = store.find(chain[-1])
        assert found is not None
        for name, weight in load(found, moments=False).weights.items():
            torch.testing.assert_close(weight, weights[name], rtol=0, atol=2e-5)
        assert losses[0] - losses[-1] > 0.2, "nothing was learned, so agreement shows nothing"


# stopping


def segment_and_store(tmp_path: Path) -> tuple[Segment, Store]:
    return worlds.segment_of(0, "fp32")[1], Store(tmp_path)


def test_checkpoints_are_timed_and_only_the_newest_stays(tmp_path: Path) -> None:
    """One is written while the next step is drawn, and done before another is begun."""
    segment, store = segment_and_store(tmp_path)
    seen: list[list[int]] = []

    class Looking(worlds.Recorder):
        def sequences(self, source: str, start: int, count: int) -> np.ndarray:
            seen.append([int(k.rsplit("-", 1)[1]) // BATCH for k in store.keys("part-")])
            return super().sequences(source, start, count)

    train(segment, Looking(), store, tiny.training(checkpoint_seconds=1e-9))
    assert len(seen) == worlds.STEPS and seen[0] == []
    for done, standing in enumerate(seen[2:], 2):
        assert set(standing) <= {done - 2, done - 1, done} and (done - 1 in standing or done - 2 in standing)
    assert store.keys() == [segment.key] and not list(store.orphaned_attempts())


class Held(Store):
    """Holds one checkpoint back until training has gone on, and remembers what it held."""

    def __init__(self, root: Path, key: str) -> None:
        super().__init__(root)
        self.key, self.ahead, self.state = key, threading.Event(), None

    def attempt(self, key: str, nonce: str | None = None) -> Any:
        assert key != self.key or self.ahead.wait(60), "training waited for the writer"
        return super().attempt(key, nonce)

    def invalidate(self, key: str) -> None:
        if key == self.key:
            self.state = load(found(self, key))
        super().invalidate(key)


def found(store: Store, key: str) -> Any:
    held = store.find(key)
    assert held is not None, key
    return held


def test_a_checkpoint_written_beside_training_is_the_state_at_its_step(tmp_path: Path) -> None:
    """The weights have moved on by the time it is written; it holds what a stop at its step leaves."""
    segment, _ = segment_and_store(tmp_path)
    key = f"part-{segment.key}-{2 * BATCH:015d}"
    beside, stopping = Held(tmp_path / "beside", key), worlds.Recorder(stop_before=1)

    def move_on(progress: Any) -> None:
        if progress.tokens == 3 * BATCH:
            beside.ahead.set()

    every_step = tiny.training(checkpoint_seconds=1e-9)
    train(segment, tiny.order(), beside, every_step, Hooks(progress=move_on, every_seconds=-1.0))
    with pytest.raises(Interrupted):
        train(segment, stopping, Store(tmp_path / "stopped"), SETTINGS, stopping.hooks)
    ours, theirs = beside.state, load(found(Store(tmp_path / "stopped"), key))
    assert ours is not None and ours.step == theirs.step == 2
    assert ours.moments is not None and theirs.moments is not None
    for mine, others in ((ours.weights, theirs.weights), (ours.moments, theirs.moments)):
        assert mine.keys() == others.keys() and all(torch.equal(mine[n], others[n]) for n in mine)


def test_a_disk_that_fills_up_under_a_checkpoint_ends_the_training(tmp_path: Path) -> None:
    segment, _ = segment_and_store(tmp_path)

    class Full(Store):
        def attempt(self, key: str, nonce: str | None = None) -> Any:
            if key.startswith("part-"):
                raise StorageError("the disk is full")
            return super().attempt(key, nonce)

    with pytest.raises(StorageError, match="the disk is full"):
        train(segment, tiny.order(), Full(tmp_path), tiny.training(checkpoint_seconds=1e-9))
    assert not Store(tmp_path).keys()


DIES = """
import os, signal, sys
from pathlib import Path
from tests.support import tiny, worlds
from splitray.storage.store import Attempt, Store
from splitray.training.loop import train

class Dying(Attempt):
    def add(self, source, name):
        super().add(source, name)
        os.kill(os.getpid(), signal.SIGKILL)

class Deadly(Store):
    parts = 0
    def attempt(self, key, nonce=None):
        self.parts += key.startswith("part-")
        return Dying(self, key) if self.parts == 2 else super().attempt(key, nonce)

_, segment = worlds.segment_of(0, "fp32")
train(segment, tiny.order(), Deadly(Path(sys.argv[1])), tiny.training(checkpoint_seconds=1e-9))
"""


def test_a_process_killed_while_it_writes_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    segment, store = segment_and_store(tmp_path / "killed")
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    died = subprocess.run([sys.executable, "-c", DIES, str(tmp_path / "killed")], env=env, timeout=300)
    assert died.returncode == -signal.SIGKILL
    (key,) = store.keys()
    assert key == f"part-{segment.key}-{BATCH:015d}" and load(found(store, key)).step == 1
    assert [name.split("/")[1] for name, _ in store.orphaned_attempts()] == [f"part-{segment.key}-{2 * BATCH:015d}"]
    rest, whole = worlds.Recorder(), Store(tmp_path / "whole")
    train(segment, rest, store, SETTINGS)
    train(segment, worlds.Recorder(), whole, SETTINGS)
    assert len(rest.drawn) == worlds.STEPS - 1, "training did not continue from the checkpoint"
    ours, theirs = (load(found(s, segment.key)) for s in (store, whole))
    assert all(torch.equal(ours.weights[n], w) for n, w in theirs.weights.items())


def test_a_stop_before_the_first_step_costs_nothing(tmp_path: Path) -> None:
    segment, store = segment_and_store(tmp_path)
    drawn = worlds.Recorder()
    with pytest.raises(Interrupted, match="before segment"):
        train(segment, drawn, store, SETTINGS, Hooks(stop=lambda: True))
    assert not drawn.drawn and not store.keys()


def test_what_stands_is_not_trained_again(tmp_path: Path) -> None:
    segment, store = segment_and_store(tmp_path)
    first = train(segment, worlds.Recorder(), store, SETTINGS)
    again = worlds.Recorder()
    assert train(segment, again, store, SETTINGS, again.hooks).nonce == first.nonce
    assert not again.drawn


def test_a_kept_engine_gives_the_bits_of_a_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parent, child, *_ = tiny.segments(RECIPE, Leaf(4 * BATCH, 4 * BATCH, "a"))
    states = []
    for name in ("kept", "new"):
        monkeypatch.setattr(warm, "_engines", OrderedDict())
        train(parent, tiny.order(), Store(tmp_path / name), SETTINGS)
        (engine,) = warm._engines.values()
        if name == "new":
            warm._engines.clear()
        states.append(load(train(child, tiny.order(), Store(tmp_path / name), SETTINGS), moments=not child.final))
        assert (list(warm._engines.values()) == [engine]) == (name == "kept")
    kept, new = states
    assert kept.step == new.step == (child.end // BATCH)
    assert all(torch.equal(kept.weights[n], w) for n, w in new.weights.items())
    assert (kept.moments is None) == child.final
    assert kept.moments is None or all(torch.equal(kept.moments[n], m) for n, m in (new.moments or {}).items())


# a loss or a gradient that is not finite


def test_a_loss_that_is_not_finite_publishes_nothing(tmp_path: Path) -> None:
    settings = tiny.training(learning_rate=1e30, warmup_tokens=0)
    (segment, *_) = tiny.segments(tiny.make_recipe(settings), Leaf(8 * BATCH))
    with pytest.raises(NonFiniteLossError, match=r"not finite .*at token \d+ of mixture.*no step was taken"):
        train(segment, tiny.order(), Store(tmp_path), settings)
    assert not Store(tmp_path).keys() and not list(Store(tmp_path).orphaned_attempts())


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_gradient_that_is_not_finite_takes_no_step(stage: int) -> None:
    """A finite loss with an infinite gradient: at stage 0 DeepSpeed alone would clip by NaN and poison every weight."""
    join_world()
    engine = engines.Engine(build(RECIPE), RECIPE, tiny.training(zero_stage=stage))
    rows = tiny.order().sequences(MIXTURE, 0, 4)
    assert engine.step(rows, 1e-2).taken
    before = engine.state(moments=True)
    name, param = next(iter(engine.engine.module.named_parameters()))
    poison = param.register_hook(lambda gradient: gradient * math.inf)
    step = engine.step(rows, 1e-2)
    poison.remove()
    after = engine.state(moments=True)
    engine.close()
    assert math.isfinite(step.loss) and not step.taken, name
    assert before is not None and after is not None and before.step == after.step == 1
    assert all(torch.equal(after.weights[n], w) for n, w in before.weights.items())


# damage


def stopped(tmp_path: Path) -> tuple[Segment, Store, State, str]:
    """A segment stopped in its middle, what its undisturbed end would be, and the key of its checkpoint."""
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    segment, _ = segment_and_store(tmp_path)
    train(segment, worlds.Recorder(), Store(whole), SETTINGS)
    recorder = worlds.Recorder(stop_before=worlds.STOP_AFTER)
    with pytest.raises(Interrupted):
        train(segment, recorder, Store(halves), SETTINGS, recorder.hooks)
    found, store = Store(whole).find(segment.key), Store(halves)
    assert found is not None
    (key,) = store.keys("part-")
    return segment, store, load(found), key


def file_of(store: Store, key: str, name: str) -> Path:
    held = store.find(key)
    assert held is not None
    return held.folder.local_path(name)


def tear_marker(store: Store, key: str) -> None:
    path = store.root.local_path(f"done/{key}.json")
    path.write_bytes(path.read_bytes()[:100])


def flip_weight(store: Store, key: str) -> None:
    path = file_of(store, key, "weights.safetensors")
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def truncate_moments(store: Store, key: str) -> None:
    path = file_of(store, key, "moments.safetensors")
    path.write_bytes(path.read_bytes()[:-100])


def lose_moments(store: Store, key: str) -> None:
    file_of(store, key, "moments.safetensors").unlink()


def of_another_segment(store: Store, key: str) -> None:
    name = f"done/{key}.json"
    marker = verified(store.root.read_json(name), name)
    marker["meta"]["segment"] = "seg-another-000000000000384"
    store.root.write_json(name, checksummed(marker))


DAMAGE: list[Callable[[Store, str], None]] = [
    tear_marker,
    flip_weight,
    truncate_moments,
    lose_moments,
    of_another_segment,
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_passed_over(
    tmp_path: Path, damage: Callable[[Store, str], None], logged: list[str]
) -> None:
    """The segment starts anew from its parent and ends in the bits of an undisturbed run; damage is named."""
    segment, store, whole, key = stopped(tmp_path)
    damage(store, key)
    made = train(segment, worlds.Recorder(), store, tiny.training(checkpoint_seconds=1e-9))
    assert made.meta["tokens_trained"] == segment.tokens, "continued from a damaged checkpoint"
    assert all(torch.equal(t, load(made).weights[n]) for n, t in whole.weights.items())
    assert store.keys() == [segment.key]
    if damage is not tear_marker:
        assert key.split("-")[2] in " ".join(logged)


@pytest.mark.parametrize("damage", [flip_weight, truncate_moments, tear_marker])
def test_a_damaged_parent_is_refused_by_name(tmp_path: Path, damage: Callable[[Store, str], None]) -> None:
    parent, child, *_ = tiny.segments(RECIPE, Leaf(4 * BATCH, 4 * BATCH, "a"))
    store = Store(tmp_path)
    train(parent, tiny.order(), store, SETTINGS)
    damage(store, parent.key)
    # a flipped byte is told by the file, which lies in a folder named for the key
    with pytest.raises(CorruptError, match=parent.key):
        train(child, tiny.order(), store, SETTINGS)
    assert store.find(child.key) is None


def test_states_of_another_model_are_refused() -> None:
    model = build(RECIPE)
    weights = {n: p.detach().clone() for n, p in model.named_parameters()}
    name = next(n for n in weights if n.endswith("q_proj.weight"))
    with pytest.raises(CorruptError, match=f"{name} has shape"):
        load_weights(model, State(weights | {name: weights[name][:1]}, None, 0))
    with pytest.raises(CorruptError, match="other parameters"):
        load_weights(model, State({n: w for n, w in weights.items() if n != name}, None, 0))


def test_moments_must_belong_to_the_weights(tmp_path: Path) -> None:
    weights = {"w": torch.ones(2, 3)}
    moments = {"exp_avg/w": torch.ones(2, 3), "exp_avg_sq/w": torch.ones(3)}
    made = publish(Store(tmp_path), "k", State(weights, moments, 1), {})
    with pytest.raises(CorruptError, match="do not belong"):
        load(made)
    final = publish(Store(tmp_path), "f", State(weights, None, 1), {})
    assert load(final, moments=False).moments is None
    with pytest.raises(CorruptError, match="no moments, so training cannot continue"):
        load(final)
    assert {p.suffix for p in tmp_path.rglob("*") if p.is_file()} == {".safetensors", ".json"}


def test_steps_are_seeded_by_token_and_rank(tmp_path: Path) -> None:
    """Dropout, where a model has it, must not remember how often the loop was restarted."""
    segment, store = segment_and_store(tmp_path)
    draws: list[Any] = []

    class Drawing(worlds.Recorder):
        def sequences(self, source: str, start: int, count: int) -> np.ndarray:
            draws.append((start, float(torch.rand(()))))
            return super().sequences(source, start, count)

    halves = Drawing(stop_before=2)
    with pytest.raises(Interrupted):
        train(segment, halves, store, SETTINGS, halves.hooks)
    train(segment, halves, store, SETTINGS, halves.hooks)
    first = list(draws)
    draws.clear()
    train(segment, Drawing(), Store(tmp_path / "whole"), SETTINGS)
    assert draws == first and len({value for _, value in draws}) == worlds.STEPS
