"""States that several ranks write at once: any other number of ranks reads its ranges, the same bits, and no others."""

import json
from pathlib import Path

import pytest
import torch

from splitray.errors import CorruptError, StorageError
from splitray.storage import ranges
from splitray.storage.store import Published, Store
from splitray.training import engine as engines
from splitray.training.model import build
from splitray.training.process import join_world
from splitray.training.shards import MOMENTS, WEIGHTS, Piece, Reader, Shard, publish, shares, write
from splitray.training.state import State, load
from tests.support import tiny

SHAPES = {"b": (7, 5), "a.weight": (3,), "c": (), "d": (2, 3, 4)}
KINDS = (WEIGHTS, *MOMENTS)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "CHUNK_BYTES", 64)


def values() -> dict[tuple[str, str], torch.Tensor]:
    """Every bit pattern counts: negative zeros and NaN are among them."""
    draw = torch.Generator().manual_seed(0)
    made = {(k, n): torch.randn(s, generator=draw) for k in KINDS for n, s in SHAPES.items()}
    made[WEIGHTS, "b"][0, :2] = torch.tensor([-0.0, float("nan")])
    return made


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().numpy().tobytes()


def written(store: Store, ranks: int, kinds: tuple[str, ...] = KINDS) -> Published:
    whole, attempts = values(), [store.attempt("k", "0a") for _ in range(ranks)]
    told = []
    for rank, mine in enumerate(shares(kinds, SHAPES, ranks)):
        pieces = {p: whole[p.kind, p.name].reshape(-1)[p.start : p.stop].clone() for p in mine}
        told.append(write(attempts[rank], rank, Shard(pieces, SHAPES, 3)))
    return publish(attempts[0], told, {"step": 3})


@pytest.mark.parametrize("wrote", [1, 2, 5])
def test_any_number_of_ranks_reads_what_any_number_wrote(tmp_path: Path, wrote: int) -> None:
    published, whole = written(Store(tmp_path), wrote), values()
    assert set(published.files) == {f"shard-{r:05d}.safetensors" for r in range(wrote)} | {"index.json"}
    for read in (1, 2, 3, 7):
        seen = {key: torch.zeros(value.numel()) for key, value in whole.items()}
        for mine in shares(KINDS, SHAPES, read):
            reader = Reader(published)
            for piece in mine:
                seen[piece.kind, piece.name][piece.start : piece.stop] = reader.read(piece)
            assert reader.step == 3 and reader.shapes == SHAPES and reader.has_moments
        assert all(bits(seen[key]) == bits(value) for key, value in whole.items())
    state = load(published)
    assert state.moments is not None and state.step == 3
    assert all(
        bits(state.weights[n]) == bits(whole[WEIGHTS, n]) and state.weights[n].shape == SHAPES[n] for n in SHAPES
    )
    assert all(bits(state.moments[f"{k}/{n}"]) == bits(whole[k, n]) for k in MOMENTS for n in SHAPES)


def test_shares_are_even_and_leave_nothing_out() -> None:
    for ranks in (1, 2, 3, 7, 64):
        cut = shares(KINDS, SHAPES, ranks)
        sizes = [sum(p.stop - p.start for p in mine) for mine in cut]
        assert sum(sizes) == 3 * (35 + 3 + 1 + 24) and max(sizes) - min(sizes) <= 1
        assert len({(p.kind, p.name, e) for mine in cut for p in mine for e in range(p.start, p.stop)}) == sum(sizes)


def test_a_range_is_read_without_the_rest(tmp_path: Path) -> None:
    """A range of one chunk costs that chunk, of files that have more than a dozen."""
    reader = Reader(written(Store(tmp_path), 2))
    reader.read(Piece(WEIGHTS, "d", 2, 6))
    assert 0 < reader.bytes_read <= 2 * 64
    whole = sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors"))
    assert whole > 12 * 64


def test_damage_is_found_in_the_ranges_that_are_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    published = written(store, 2)
    path = published.folder.local_path("shard-00001.safetensors")
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    every = [Piece(k, n, 0, v.numel()) for (k, n), v in values().items()]
    failed = 0
    for piece in every:
        try:
            assert bits(Reader(published).read(piece)) == bits(values()[piece.kind, piece.name])
        except CorruptError as error:
            assert "shard-00001.safetensors: chunk" in str(error)
            failed += 1
    assert 1 <= failed < len(every) // 2
    with pytest.raises(CorruptError, match="does not match its SHA-256"):
        load(published)
    path.unlink()
    with pytest.raises(CorruptError, match=r"shard-00001\.safetensors is missing"):
        load(published)
    path = published.folder.local_path("index.json")
    path.write_text(path.read_text().replace(":1", ":2", 1).replace("35", "34", 1))
    with pytest.raises(CorruptError, match=r"index\.json has SHA-256"):
        Reader(published)


def test_shards_that_leave_something_out_are_not_published(tmp_path: Path) -> None:
    store, whole = Store(tmp_path), values()
    attempt = store.attempt("k", "0a")
    mine = shares(KINDS, SHAPES, 2)[0]
    pieces = {p: whole[p.kind, p.name].reshape(-1)[p.start : p.stop] for p in mine}
    half = write(attempt, 0, Shard(pieces, SHAPES, 3))
    with pytest.raises(CorruptError, match=r"its shards have \d+ of the \d+ elements of"):
        publish(attempt, [half], {"step": 3})
    with pytest.raises(CorruptError, match="its shards repeat elements of"):
        publish(attempt, [half, half], {"step": 3})
    assert store.keys() == [] and store.find("k") is None


def test_a_finished_state_has_no_moments(tmp_path: Path) -> None:
    published = written(Store(tmp_path), 3, (WEIGHTS,))
    assert load(published, moments=False).moments is None and not Reader(published).has_moments
    with pytest.raises(CorruptError, match="no moments, so training cannot continue"):
        load(published)


def test_a_shard_reads_by_itself(tmp_path: Path) -> None:
    """Its header names the ranges, the shapes and the step, for any reader of safetensors."""
    from safetensors import safe_open

    published = written(Store(tmp_path), 2)
    with safe_open(published.folder.local_path("shard-00000.safetensors"), framework="pt") as file:
        head = json.loads(file.metadata()["state"])
        assert head["shapes"]["d"] == [2, 3, 4] and head["step"] == 3
        label = next(name for name in file.keys() if name.startswith("weights/b["))  # noqa: SIM118 - no dictionary
        assert label == "weights/b[0:35]" and bits(file.get_tensor(label)) == bits(values()[WEIGHTS, "b"])


def test_a_full_disk_names_the_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors.torch

    def full(*args: object, **named: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(StorageError, match=r"takes no shard-00000\.safetensors of k"):
        written(Store(tmp_path), 1)


def test_sums_have_the_precision_of_the_setting() -> None:
    """What DeepSpeed exchanges at ZeRO 1: linear layers in bf16 where that is asked for, everything in fp32 else."""
    torch.set_num_threads(1)
    join_world()
    for reduction, dtypes in (("fp32", {torch.float32}), ("bf16", {torch.float32, torch.bfloat16})):
        settings = tiny.training(zero_stage=1, precision="bf16", reduction=reduction)
        recipe = tiny.make_recipe(settings)
        engine = engines.Engine(build(recipe), recipe, settings)
        assert set(engine.engine.optimizer.ipg_buckets) == dtypes
        assert engine.step(tiny.order().sequences("mixture", 0, 4), 1e-3).taken
        engine.close()
    assert tiny.make_recipe(tiny.training(reduction="bf16")).hash == tiny.make_recipe().hash


def test_a_state_of_one_file_is_read_by_ranges(tmp_path: Path) -> None:
    """What a single process or the first release wrote, continued by a group: the same bits, by memory map."""
    from splitray.training.restore import _source
    from splitray.training.state import publish as publish_whole

    whole = values()
    weights = {n: whole[WEIGHTS, n] for n in SHAPES}
    moments = {f"{k}/{n}": whole[k, n] for k in MOMENTS for n in SHAPES}
    published = publish_whole(Store(tmp_path), "k", State(weights, moments, 5), {})
    source = _source(published)
    assert source.step == 5 and source.shapes == SHAPES
    for mine in shares(KINDS, SHAPES, 3):
        for piece in mine:
            part = whole[piece.kind, piece.name].reshape(-1)[piece.start : piece.stop]
            assert bits(source.read(piece)) == bits(part)
    path = published.folder.local_path("moments.safetensors")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(CorruptError, match=r"moments\.safetensors has SHA-256"):
        _source(published)
