"""Models by `transformers`: Llama-style from a shape, or a causal LM from a local folder."""

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from splitray.errors import UserError
from splitray.storage.checksum import fingerprint, sha256_file
from splitray.training.settings import ModelShape

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Size:
    """Parameter counts of a model. `params` is the law's N: all weights but the input embedding table."""

    params: int
    total: int
    hidden: int
    layers: int


def size(shape: ModelShape, vocab: int, tied: bool) -> Size:
    """Counts from the shape alone, without building the model."""
    if shape.path is not None:
        return _size_on_disk(Path(shape.path))
    hidden, mlp = shape.width, shape.mlp_width
    head_dim = hidden // shape.head_count
    attention = 2 * hidden * hidden + 2 * hidden * head_dim * shape.kv_head_count
    blocks = shape.depth * (attention + 3 * hidden * mlp + 2 * hidden)
    params = blocks + hidden + vocab * hidden
    return Size(params, params if tied else params + vocab * hidden, hidden, shape.depth)


def _size_on_disk(path: Path) -> Size:
    """Counts from the headers of the safetensors files; nothing is loaded."""
    from safetensors import SafetensorError, safe_open

    config = _config_on_disk(path)
    total = embedding = 0
    names = set()
    for file in _weight_files(path):
        try:
            with safe_open(file, framework="np") as tensors:
                shapes = {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise UserError(f"model path {path}: {file.name} is no readable safetensors file ({error})") from error
        for name, shape in shapes.items():
            total += math.prod(shape)
            names.add(name)
            if name.endswith(("embed_tokens.weight", "wte.weight", "embed_in.weight")):
                embedding = math.prod(shape)
    tied = config.get("tie_word_embeddings", False) and not any("lm_head" in n or "embed_out" in n for n in names)
    hidden = config.get("hidden_size") or config.get("n_embd")
    layers = config.get("num_hidden_layers") or config.get("n_layer")
    return Size(total if tied else total - embedding, total, int(hidden or 0), int(layers or 0))


def _config_on_disk(path: Path) -> dict[str, Any]:
    try:
        config = dict(json.loads((path / "config.json").read_text()))
    except (OSError, ValueError) as error:
        raise UserError(f"model path {path}: no readable config.json ({error}); give a Hugging Face folder") from error
    if "auto_map" in config:
        from transformers import CONFIG_MAPPING

        if config.get("model_type") not in CONFIG_MAPPING:
            raise UserError(
                f"model path {path}: it needs code of its own ({config['auto_map']}), and code that comes with a model "
                "is never run (trust_remote_code stays off); give a model that transformers knows"
            )
    return config


def _weight_files(path: Path) -> list[Path]:
    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise UserError(f"model path {path}: no .safetensors files; pickled weights (.bin, .pt) are not loaded")
    return files


def root_hash(shape: ModelShape) -> str | None:
    """Names the weights a model continues from: a hash over config and safetensors; None from scratch."""
    if shape.path is None:
        return None
    path = Path(shape.path)
    files = [(f, f.stat()) for f in _weight_files(path)]
    return fingerprint([_config_on_disk(path), [_hashed(f, s.st_size, s.st_mtime_ns) for f, s in files]])


@lru_cache(maxsize=64)
def _hashed(path: Path, size: int, modified: int) -> str:
    """The SHA-256 of a file, read once a process as long as it stays as it is: every segment asks again."""
    return sha256_file(path)


def build(recipe: "dict[str, Any]") -> "torch.nn.Module":
    """The model of a segment's recipe (see `splitray.training.tree.recipe`), freshly initialised or from its root.

    Initialisation depends on the recipe's seed alone. fp32 weights on the CPU.
    """
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    shape = ModelShape(**recipe["model"])
    torch.manual_seed(recipe["seed"])
    if shape.path is not None:
        if recipe.get("root") not in (None, root_hash(shape)):
            raise UserError(
                f"model path {shape.path}: its files are not those that this run began with; bring them back, or start "
                "a run of another name from what lies there now"
            )
        model = AutoModelForCausalLM.from_pretrained(
            shape.path, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, local_files_only=True
        )
        if model.config.vocab_size < recipe["vocab"]:
            raise UserError(
                f"model path {shape.path}: its vocabulary of {model.config.vocab_size} is smaller than the "
                f"corpus tokenizer's {recipe['vocab']}; set corpus.tokenizer to the model's own tokenizer"
            )
        return model
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=recipe["vocab"],
            hidden_size=shape.width,
            intermediate_size=shape.mlp_width,
            num_hidden_layers=shape.depth,
            num_attention_heads=shape.head_count,
            num_key_value_heads=shape.kv_head_count,
            max_position_embeddings=recipe["sequence_length"],
            rope_parameters={"rope_type": "default", "rope_theta": recipe["rope_theta"]},
            tie_word_embeddings=recipe["tie_embeddings"],
            # 0.02 is made for widths near 1000: tiny models start with logits of no variance (ours: 1/sqrt(hidden))
            initializer_range=min(0.02 * (1024 / shape.width) ** 0.5, 0.1),
            bos_token_id=None,
            eos_token_id=recipe["end_token"],
            pad_token_id=None,
        )
    )
