"""`splitray export`: one model with experts from a finished run, and exports of an earlier splitray."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from splitray.cli.main import main


@pytest.fixture(scope="module")
def merged(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the run with its merged model."""
    folder = tmp_path_factory.mktemp("merged")
    shutil.copytree(finished_run, folder / "run")
    assert main(["export", str(folder / "run"), "--store", str(finished_run.parent / "store"), "--moe"]) == 0
    return folder / "run"


def test_it_loads_generates_and_is_verified(merged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(merged / "moe", local_files_only=True, trust_remote_code=False)
    tokenizer = AutoTokenizer.from_pretrained(merged / "moe", local_files_only=True)
    ids = tokenizer(tokenizer.eos_token + "ship sail", return_tensors="pt")
    assert model.generate(**ids, max_new_tokens=4, do_sample=False).shape[1] > ids["input_ids"].shape[1]
    assert model.config.num_local_experts == 3 and model.config.num_experts_per_tok == 2
    specialist = AutoModelForCausalLM.from_pretrained(merged / "specialists/1_kitchen", local_files_only=True)
    down = model.model.layers[1].mlp.experts.down_proj[1]
    assert torch.equal(down, specialist.model.layers[1].mlp.down_proj.weight)
    assert main(["verify", str(merged)]) == 0 and main(["verify", str(merged / "moe")]) == 0
    weights = merged / "moe/model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert main(["verify", str(merged)]) == 1
    weights.write_bytes(content)
    assert "fault: moe/model.safetensors" in capsys.readouterr().out


def test_its_loss_stands_beside_the_others(merged: Path) -> None:
    rows = {row["model"]: row for row in json.loads((merged / "moe/evaluation.json").read_text())["rows"]}
    evaluated = json.loads((merged / "stages/evaluate.json").read_text())["result"]
    strategies = {row["strategy"]: row["loss"] for row in evaluated["comparison"]}
    matrix = dict(zip(evaluated["matrix"]["models"], evaluated["matrix"]["loss"], strict=True))
    base = next(row for name, row in matrix.items() if "base" in name)
    assert rows["specialist of the known domain"]["loss"] == pytest.approx(strategies["planned split"])
    assert rows["unsplit model of as many tokens"]["loss"] == pytest.approx(strategies["unsplit"])
    assert rows["mixture of all models"]["loss"] == evaluated["mixture"]["loss"]
    assert rows["base"]["loss"] == pytest.approx(sum(base) / len(base))
    ours = rows["one model with experts"]["loss"]
    assert rows["base"]["difference"]["value"] == pytest.approx(ours - rows["base"]["loss"])
    assert ours < rows["average of the specialists' weights"]["loss"] < rows["base"]["loss"]
    card = (merged / "moe/README.md").read_text()
    row = next(line for line in card.splitlines() if line.startswith("| one model with experts |"))
    assert row.startswith("| one model with experts | 24,576 |") and f"| {ours:.4f} |" in row and "vllm serve" in card


def test_the_loss_is_the_one_of_the_folder(merged: Path, finished_run: Path) -> None:
    """Measured anew from the files, window by window."""
    from transformers import AutoModelForCausalLM

    from splitray.corpus import Corpus
    from splitray.storage.store import Store

    model = AutoModelForCausalLM.from_pretrained(merged / "moe", local_files_only=True)
    corpus = Corpus.open(Store(finished_run.parent / "store"), "corpus-tiny")
    recorded = json.loads((merged / "moe/evaluation.json").read_text())
    (shard,) = corpus.tokens("0_sea", "validation")
    stream = torch.from_numpy(shard[: len(shard)].astype("int64"))
    nats = 0.0
    for begin in range(
        0, len(stream) - 1, 32
    ):  # windows of the training's length, as every model of the run was scored
        window = stream[begin : begin + 33]
        with torch.no_grad():
            logits = model(input_ids=window[None, :-1], use_cache=False).logits[0]
        nats += torch.nn.functional.cross_entropy(logits, window[1:], reduction="sum").item()
    assert recorded["by_domain"]["0_sea"] == pytest.approx(nats / (len(stream) - 1), rel=1e-6)


def test_again_it_has_the_same_bits(merged: Path, finished_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    arguments = ["export", str(merged), "--store", str(finished_run.parent / "store"), "--moe", "--out", str(out)]
    assert main(arguments) == 0
    assert (out / "model.safetensors").read_bytes() == (merged / "moe/model.safetensors").read_bytes()
    assert (out / "README.md").exists()
    assert main([*arguments, "--shared", "base", "--active", "1"]) == 0
    assert (out / "model.safetensors").read_bytes() != (merged / "moe/model.safetensors").read_bytes()
    assert json.loads((out / "evaluation.json").read_text())["active"] == 1


def test_folders_of_an_earlier_splitray_are_written_anew(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, store = tmp_path / "run", finished_run.parent / "store"
    shutil.copytree(finished_run, run)
    for path in [*run.rglob("checksums.json"), *run.rglob("README.md")]:
        path.unlink()
    assert main(["verify", str(run)]) == 1
    assert main(["export", str(run), "--store", str(store)]) == 0
    assert capsys.readouterr().out.count("written anew, with checksums: ") == 6
    assert main(["verify", str(run), "--store", str(store)]) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--out", "x"], 2, "--out is for --moe"),
        (["--moe", "--active", "4"], 2, "1 to 3 experts, not 4"),
        (["--moe", "--router-tokens", "10"], 2, "at least 32 training tokens"),
        (["--moe", "--store", "{tmp}/empty"], 2, "holds no corpus-tiny, the run's corpus"),
        (["--tune-tokens", "1024"], 2, "--tune-tokens is for --moe"),
        (["--moe", "--tune-tokens", "-1"], 2, "--tune-tokens -1"),
        (["--moe", "--tune-tokens", "100"], 2, "a batch of this run has 256 tokens"),
        (["--moe", "--tune-tokens", "1024", "--active", "1"], 2, "a token's only expert has the weight 1"),
    ],
)
def test_what_cannot_be_exported(
    arguments: list[str], code: int, told: str, finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [argument.format(tmp=tmp_path) for argument in arguments]
    store = [] if "--store" in given else ["--store", str(finished_run.parent / "store")]
    assert main(["export", str(finished_run), *store, *given]) == code
    assert re.search(told, capsys.readouterr().err)
    assert not (finished_run / "moe").exists()
    assert main(["export", str(tmp_path)]) == 2
