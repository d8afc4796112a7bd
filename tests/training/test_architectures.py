"""Every causal architecture of transformers that can be built tiny: N, causality, and documents kept apart.

N is compared with a count of the built model. Packed documents are compared with each document alone, on the model
itself: the probe that chose the way asks a smaller copy with other weights.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as NAMES

from splitray.training.family import Packing
from splitray.training.folder import described, quiet
from splitray.training.packing import packed_logits
from splitray.training.probe import Probed, probe_config
from tests.support import causal

# One of each kind: plain, eager with a soft cap, eager with sine tables, a window, ALiBi, state space, a mix of state
# space and attention, experts, learned positions, another name for the width.
FAST = ["llama", "gemma2", "gptj", "mistral", "bloom", "mamba", "recurrent_gemma", "mixtral", "gpt2", "mpt"]
# Encoders: causal only with is_decoder.
ENCODERS = {"bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert"}
ENCODERS |= {"rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "xlm", "xlm-roberta"}
ENCODERS |= {"xlm-roberta-xl", "xlnet", "xmod", "cpmant"}
ENCODERS |= {"prophetnet"}  # no encoder, but its n-gram streams move with later tokens, by 7e-3
SLOW_TO_BUILD = {"blt", "roc_bert", "phi4_multimodal", "got_ocr2", "cpmant"}
END = 0


def built(name: str) -> Any:
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    try:
        with quiet():
            model = AutoModelForCausalLM.from_config(causal.config(name))
            model(input_ids=torch.ones(1, 5, dtype=torch.long), use_cache=False)
    except Exception as error:  # their own code raises whatever a tiny size breaks
        pytest.skip(f"{name} cannot be built tiny: {error!r}"[:200])
    return model.eval()


def table(model: Any) -> int:
    """Weights of the input table that no head shares."""
    head = model.get_output_embeddings()
    weight = model.get_input_embeddings().weight
    return 0 if head is not None and head.weight.data_ptr() == weight.data_ptr() else weight.numel()


def moves(model: Any) -> float:
    """How far predictions move when only later tokens change, over how far they move when earlier ones do."""
    tokens = torch.randint(2, 90, (1, 20))
    ahead, behind = tokens.clone(), tokens.clone()
    ahead[0, 12:], behind[0, :12] = torch.randint(2, 90, (8,)), torch.randint(2, 90, (12,))
    with torch.no_grad():
        plain, changed, shifted = (model(input_ids=t, use_cache=False).logits for t in (tokens, ahead, behind))
    return float((plain - changed)[:, :12].abs().max() / (plain - shifted)[:, 12:].abs().max())


def apart(model: Any, packing: Packing) -> float:
    """The largest difference of packed documents' logits from those of each alone, over the logits' own size."""
    lengths = [[7, 1, 12], [3, 9, 8]]
    rows = torch.randint(2, 90, (2, 20))
    for row, counts in zip(rows, lengths, strict=True):
        row[torch.tensor(counts).cumsum(0) - 1] = END
    with torch.no_grad():
        packed = packed_logits(model, rows, END, packing)
        alone = torch.stack(
            [
                torch.cat([model(input_ids=d[None], use_cache=False).logits[0] for d in row.split(counts)])
                for row, counts in zip(rows, lengths, strict=True)
            ]
        )
    return float((packed - alone).abs().max() / alone.abs().max())


def louder(model: Any) -> None:
    """Weights of 5 times the initial size: with those of before training one token hardly moves another's logits."""
    with torch.no_grad():
        for param in model.parameters():
            if param.dim() >= 2:
                param.mul_(5.0)


@pytest.mark.parametrize(
    "name", [n if n in FAST else pytest.param(n, marks=pytest.mark.survey) for n in NAMES if n not in SLOW_TO_BUILD]
)
def test_an_architecture(name: str, tmp_path: Path) -> None:
    model = built(name)
    with quiet():
        model.save_pretrained(tmp_path)
    total = sum(p.numel() for p in model.parameters())
    try:
        counted = described(tmp_path).size
    except Exception as error:
        assert "Unrecognized configuration class" in str(error), error
        pytest.skip(f"{name}: transformers itself does not load the folder that it saved")
    assert (counted.params, counted.total) == (total - table(model), total)
    assert counted.hidden == causal.HIDDEN and counted.layers >= 1
    try:
        found: Probed = probe_config(model.config)
    except Exception as error:
        pytest.skip(f"{name} is refused: {error}"[:200])
    assert found.causal == (name not in ENCODERS)
    louder(model)
    if not found.causal:
        assert moves(model) > 5e-3, "refused, and yet it does not see the future"
        return
    assert moves(model) < 1e-3
    assert found.packing in found.apart and Packing.ROWS in found.apart
    for packing in found.apart:
        assert apart(model, packing) < 1e-3, packing


@pytest.mark.parametrize(("name", "way"), [("gemma2", "positions"), ("bloom", "rows"), ("mamba", "rows")])
def test_a_boolean_mask_is_no_way_for_them(name: str, way: str) -> None:
    """What was done before: a mask that eager code adds to its scores, or that a model does not read at all."""
    model = built(name)
    louder(model)
    assert probe_config(model.config).packing.value == way
    try:
        wrong = apart(model, Packing.MASK)
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError):
        return
    assert wrong > 1e-2
