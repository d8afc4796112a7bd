"""The layout of merged experts, beside mergekit's: its own writers are given our routers.

mergekit is no dependency. Where it is not installed this is skipped.
"""

from pathlib import Path
from typing import Any

import pytest
import torch

from splitray.export.moe import merge
from tests.export.test_moe import LENGTH, dense, texts

pytest.importorskip("mergekit")


@pytest.mark.parametrize("family", ["Llama", "Mistral", "Qwen3"])
def test_the_same_tensors_under_the_same_names(family: str, tmp_path: Path) -> None:
    from mergekit.moe.config import Expert, MoEMergeConfig
    from mergekit.moe.mixtral import MixtralMoE
    from mergekit.moe.qwen3 import Qwen3MoE
    from mergekit.options import MergeOptions
    from transformers import AutoModelForCausalLM

    corpus = texts(2)
    changes = {"sliding_window": None} if family == "Mistral" else {}  # mergekit drops the window
    models = {domain: dense(family, seed, **changes) for seed, domain in enumerate(corpus)}
    base = dense(family, 7, **changes)
    for name, model in {**models, "base": base}.items():
        model.save_pretrained(tmp_path / name)
    ours = merge(models, corpus, LENGTH, shared=base)
    routers = [layer.mlp.gate.weight.detach() for layer in ours.model.layers]
    config = MoEMergeConfig(
        base_model=str(tmp_path / "base"),
        experts=[Expert(source_model=str(tmp_path / domain)) for domain in models],
        gate_mode="random",
        dtype="float32",
    )
    writer: Any = Qwen3MoE() if family == "Qwen3" else MixtralMoE()
    assert writer.supports_config(config)
    writer.write_model(str(tmp_path / "theirs"), config, MergeOptions(), routers)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "theirs", local_files_only=True)
    assert type(theirs) is type(ours)
    mine, other = ours.state_dict(), theirs.state_dict()
    assert mine.keys() == other.keys()
    assert all(torch.equal(mine[name], other[name]) for name in mine)
