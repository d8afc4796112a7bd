"""`splitray export RUN --moe --tune-tokens N`: the routers, and nothing else, trained as one more segment."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from splitray.cli.main import main
from splitray.errors import CorruptError
from splitray.law import Law
from splitray.pipeline.experts import MergeSettings, merge_run
from splitray.pipeline.verify import RunCheck
from splitray.results.merged import MERGED
from splitray.storage.checksum import checksummed
from splitray.storage.folder import Folder
from splitray.storage.store import Store
from splitray.training.loop import Hooks, Interrupted

TOKENS, BATCH, BUDGET = 8192, 256, 24576
LENGTH = 32


@pytest.fixture(scope="module")
def home(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the run and its store, with the merged model as it is fitted in `fitted`, and tuned in `run/moe`."""
    folder = tmp_path_factory.mktemp("tuned")
    shutil.copytree(finished_run.parent, folder, dirs_exist_ok=True)
    assert export(folder, "--out", str(folder / "fitted")) == 0
    assert export(folder, "--tune-tokens", str(TOKENS + 10)) == 0, "it is rounded to whole batches"
    return folder


def export(home: Path, *more: str) -> int:
    return main(["export", str(home / "run"), "--store", str(home / "store"), "--moe", *more])


def evaluation(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = MERGED.open(json.loads((folder / "evaluation.json").read_text()), "evaluation.json")
    return found


def segments(home: Path) -> set[str]:
    store = Store(home / "store")
    return {*store.keys("seg-"), *store.keys("part-")}


def test_only_the_routers_have_changed(home: Path) -> None:
    from transformers import AutoModelForCausalLM

    fitted, tuned = (load_file(home / name / "model.safetensors") for name in ("fitted", "run/moe"))
    changed = {name for name in fitted if not torch.equal(fitted[name], tuned[name])}
    assert changed == {f"model.layers.{layer}.block_sparse_moe.gate.weight" for layer in (0, 1)}
    model = AutoModelForCausalLM.from_pretrained(home / "run/moe", local_files_only=True, trust_remote_code=False)
    assert type(model).__name__ == "MixtralForCausalLM"
    assert torch.equal(model.model.layers[1].mlp.gate.weight, tuned["model.layers.1.block_sparse_moe.gate.weight"])


def test_its_loss_and_its_price_stand_beside_the_others(home: Path) -> None:
    from transformers import AutoModelForCausalLM

    from splitray.corpus import Corpus

    record, before = evaluation(home / "run/moe"), evaluation(home / "fitted")
    rows = {row["model"]: row for row in record["rows"]}
    tuned, fitted = rows["one model with experts, its routers tuned"], rows["one model with experts"]
    assert record["rows"][0] == tuned and fitted["loss"] == before["rows"][0]["loss"]
    assert tuned["loss"] < fitted["loss"]
    assert fitted["difference"]["value"] == pytest.approx(tuned["loss"] - fitted["loss"])
    assert tuned["tokens"] == BUDGET + TOKENS == record["tuning"]["tokens"] + fitted["tokens"]
    for name in ("unsplit model of as many tokens", "specialist of the known domain"):
        assert rows[name]["tokens"] == BUDGET
    assert rows["base"]["tokens"] < BUDGET < rows["mixture of all models"]["tokens"] < BUDGET + rows["base"]["tokens"]
    model: Any = AutoModelForCausalLM.from_pretrained(home / "run/moe", local_files_only=True)
    longer, measured = (
        rows["unsplit model with the tuning's tokens, by the law"],
        rows["unsplit model of as many tokens"],
    )
    law = Law.load(home / "run/law_final.json")
    params = json.loads((home / "run/summary.json").read_text())["params"]
    ratio = float(law.predict(params, BUDGET + TOKENS) / law.predict(params, BUDGET))
    assert longer["loss"] == pytest.approx(measured["loss"] * ratio) and 0.5 < ratio < 1
    assert longer["tokens"] == tuned["tokens"] and longer["flops"] > tuned["flops"], "6 FLOPs a weight, not 4"
    assert record["tuning"]["weights"] == sum(layer.mlp.gate.weight.numel() for layer in model.model.layers)
    # A token passes 2 of 3 experts: matrices it meets, once forwards and once for the gradient, and attention's scores.
    sizes = {n: p.numel() for n, p in model.named_parameters()}
    meets = sum(s * 2 / 3 if ".experts." in n else s for n, s in sizes.items())
    by_hand = TOKENS * (4 * meets + 6 * 2 * 16 * LENGTH)
    assert record["tuning"]["flops"] == pytest.approx(by_hand, rel=1e-9)
    assert tuned["flops"] == pytest.approx(fitted["flops"] + by_hand)
    corpus = Corpus.open(Store(home / "store"), "corpus-tiny")
    (shard,) = corpus.tokens("2_court", "validation")
    stream, nats = torch.from_numpy(shard[: len(shard)].astype("int64")), 0.0
    for begin in range(0, len(stream) - 1, LENGTH):
        window = stream[begin : begin + LENGTH + 1]
        with torch.no_grad():
            logits = model(input_ids=window[None, :-1], use_cache=False).logits[0]
        nats += torch.nn.functional.cross_entropy(logits, window[1:], reduction="sum").item()
    assert record["by_domain"]["2_court"] == pytest.approx(nats / (len(stream) - 1), rel=1e-6)


def test_a_second_export_trains_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, again = segments(home), home / "again"
    assert export(home, "--tune-tokens", str(TOKENS), "--out", str(again)) == 0
    assert segments(home) == before
    shown = capsys.readouterr().out
    assert "routers: " not in shown and "had these tokens more than the others" in shown
    for name in ("model.safetensors", "evaluation.json", "config.json"):
        assert (again / name).read_bytes() == (home / "run/moe" / name).read_bytes(), name


def test_it_is_a_segment_of_the_tree_with_the_merged_model_as_its_root(home: Path) -> None:
    record = json.loads((home / "run/moe/checksums.json").read_text())
    tuning = evaluation(home / "run/moe")["tuning"]
    published = Store(home / "store").find(tuning["key"])
    assert published is not None and record["key"] == tuning["key"]
    recipe = record["lineage"]["recipe"]
    assert recipe["root"] == tuning["root"] and recipe["trainable"] == "*.mlp.gate.weight"
    assert recipe["model"]["path"] == f"sha256:{tuning['root']}", "no folder of this machine is in a key"
    assert [phase["source"] for phase in record["lineage"]["phases"]] == ["mixture", "mixture"]
    parent = Store(home / "store").find(published.meta["parent"])
    assert parent is not None and published.meta["tokens_trained"] + parent.meta["tokens_trained"] == TOKENS
    assert published.bytes < 10_000, "a state holds what has learned"


def test_interrupted_it_goes_on_and_ends_in_the_same_bits(home: Path, finished_run: Path, tmp_path: Path) -> None:
    shutil.copytree(finished_run.parent, tmp_path, dirs_exist_ok=True)
    run, store, seen = RunCheck.of(Folder(tmp_path / "run")), Store(tmp_path / "store"), list[int]()
    settings, target = MergeSettings(tune_tokens=TOKENS), Folder(tmp_path / "out")
    stopping = Hooks(lambda progress: seen.append(progress.tokens), lambda: len(seen) >= 3, every_seconds=-1.0)
    with pytest.raises(Interrupted):
        merge_run(run, store, target, settings, stopping)
    assert not target.exists("model.safetensors") and seen[-1] == 4 * BATCH, "the step that was asked to be the last"
    going = Hooks(lambda progress: seen.append(progress.tokens), every_seconds=-1.0)
    merge_run(run, store, target, settings, going)
    assert seen == list(range(BATCH, TOKENS + 1, BATCH)), "no step was taken twice"
    assert (tmp_path / "out/model.safetensors").read_bytes() == (home / "run/moe/model.safetensors").read_bytes()


def test_its_card_says_what_it_has_cost(home: Path) -> None:
    card, fitted = ((home / name / "README.md").read_text() for name in ("run/moe", "fitted"))
    assert f"The routers alone were trained for {TOKENS:,} tokens of the mixture" in card
    assert "| the routers alone, after the merge | all domains by weight |" in card
    assert "No weight was trained for this model" in fitted and "No weight was trained" not in card
    assert evaluation(home / "run/moe")["tuning"]["root"] in card


def test_verify_knows_the_segment(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(home / "run", tmp_path / "run")
    run, store = tmp_path / "run", str(home / "store")
    assert main(["verify", str(run), "--store", store]) == 0 and main(["verify", str(run / "moe")]) == 0
    record = json.loads((run / "moe/checksums.json").read_text())
    del record["sha256"]
    record["lineage"]["phases"][-1]["end"] += BATCH
    (run / "moe/checksums.json").write_text(json.dumps(checksummed(record)))
    capsys.readouterr()
    assert main(["verify", str(run)]) == 1
    assert "fault: moe/checksums.json: its lineage is that of seg-" in capsys.readouterr().out


def test_routers_that_are_not_the_segments_are_found(home: Path, tmp_path: Path) -> None:
    """Every checksum of the folder made anew: the store still tells."""
    shutil.copytree(home / "run", tmp_path / "run")
    record = json.loads((tmp_path / "run/moe/checksums.json").read_text())
    fitted = json.loads((home / "fitted/checksums.json").read_text())
    shutil.copy(home / "fitted/model.safetensors", tmp_path / "run/moe/model.safetensors")
    record["files"]["model.safetensors"] = fitted["files"]["model.safetensors"]
    del record["sha256"]
    (tmp_path / "run/moe/checksums.json").write_text(json.dumps(checksummed(record)))
    assert main(["verify", str(tmp_path / "run")]) == 0
    from splitray.pipeline.verify_store import check_store

    run = RunCheck.of(Folder(tmp_path / "run"))
    check_store(run, Store(home / "store"))
    with pytest.raises(CorruptError, match=r"moe: its weights are not those of seg-.*gate\.weight"):
        run.refuse_faults()
