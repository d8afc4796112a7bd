"""The family of models from outside: any causal LM of `transformers` in a local folder, continued from its weights.

What a folder holds is asked of the model class itself, on torch's meta device: which weights the files lack, which
table is shared, how wide the model is. Nothing is loaded for that.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from splitray.errors import UserError
from splitray.runtime.quiet import no_bars
from splitray.storage.checksum import fingerprint, sha256_file
from splitray.training.buffers import without_buffers
from splitray.training.family import Family, ModelSpec, Packing, PlainHead, Size, count, register
from splitray.training.llama import llama_attention, llama_head
from splitray.training.places import folder_of

if TYPE_CHECKING:
    import torch

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_NAMED = 3  # parameters in one message
_POINTER = b"version https://git-lfs.github.com/spec/"
_NO_FOLDER = ("~", "file:", "s3:", "gs:", "hf:", "http:", "https:")  # as Path writes them


@register
class Folder(Family):
    """Named by `model: {path: ...}`; its configuration and weights are all that is read of the shape."""

    name = "folder"

    def build(self, spec: ModelSpec) -> "torch.nn.Module":
        return load(folder_of(spec.shape))

    def size(self, spec: ModelSpec) -> Size:
        return described(folder_of(spec.shape)).size

    def head(self, model: "torch.nn.Module") -> PlainHead | None:
        return llama_head(model)

    def attention(self, model: "torch.nn.Module") -> str | None:
        return llama_attention(model)

    def packing(self, spec: ModelSpec) -> Packing:
        from splitray.training.probe import probe_folder

        path = folder_of(spec.shape)
        return Packing.MASK if described(path).plain_llama else probe_folder(path).packing


@dataclass(frozen=True)
class Described:
    """What is known of a folder's model without loading it; `table` is the rows of its input embedding table."""

    size: Size
    table: int
    plain_llama: bool


def described(path: Path) -> Described:
    """What a folder's model is.

    Raises:
        UserError: a file is missing or unreadable, transformers does not know the model, or its files lack weights.
    """
    return _described(path, fingerprint([config_on_disk(path), _listing(checked_files(path))]))


@lru_cache(maxsize=64)
def _described(path: Path, state: str) -> Described:
    model: Any = load(path, meta=True)
    text = model.config.get_text_config(decoder=True)
    table = model.get_input_embeddings().weight
    layers = getattr(text, "num_hidden_layers", None) or _longest_stack(model)
    hidden = getattr(text, "hidden_size", None) or table.shape[1]
    return Described(count(model, int(hidden), int(layers)), int(table.shape[0]), llama_head(model) is not None)


def _longest_stack(model: "torch.nn.Module") -> int:
    import torch

    return max((len(m) for m in model.modules() if isinstance(m, torch.nn.ModuleList)), default=0)


def load_exported(folder: Path) -> "torch.nn.Module":
    """A model that this package has exported, without the checks that a model from outside gets. No code of it runs.

    Raises:
        OSError, ValueError: it cannot be loaded.
    """
    from transformers import AutoModelForCausalLM

    from splitray.training.process import deepspeed_environment

    with no_bars(), deepspeed_environment():  # transformers imports DeepSpeed where it is installed
        model: torch.nn.Module = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    return model


def load(path: Path, meta: bool = False) -> "torch.nn.Module":
    """The model of a folder, fp32: on the CPU, or without memory on the meta device.

    Raises:
        UserError: it cannot be loaded, or its files hold other weights than its class has.
    """
    import torch
    from transformers import AutoModelForCausalLM

    config_on_disk(path)
    checked_files(path)
    place = {"device_map": "meta"} if meta else {}
    try:
        with quiet():
            model, found = AutoModelForCausalLM.from_pretrained(
                path,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused below, with their shapes
                **place,
            )
    except Exception as error:  # model classes raise whatever their own code meets
        reason = " ".join((str(error).strip() or repr(error)).split())
        raise UserError(f"model path {path}: transformers cannot load it as a causal LM: {reason:.300}") from error
    missing, unknown = sorted(found["missing_keys"]), sorted(found["unexpected_keys"])
    if unknown:
        unknown = without_buffers(unknown, path)
    if missing or unknown:
        raise UserError(f"model path {path}: {_other_weights(missing, unknown)}")
    if other := sorted(found["mismatched_keys"]):
        name, file, own = other[0]
        raise UserError(
            f"model path {path}: {len(other)} weights have other shapes in the files than config.json says: {name} is "
            f"{list(file)} in the file and {list(own)} by the config; give the config that the weights were saved with"
        )
    return model


def _other_weights(missing: list[str], unknown: list[str]) -> str:
    """A message on files that hold other weights than the model's class has."""
    told = []
    if missing:
        told.append(f"its files lack {len(missing)} weights of the model ({_first(missing)})")
    if unknown:
        told.append(f"hold {len(unknown)} that the model has no place for ({_first(unknown)})")
    text = " and ".join(told) if missing else f"its files {told[0]}"
    if wrapped := _wrapped(missing, unknown):
        return f"{text}. Their names have {wrapped!r} too much, which a wrapper adds: save the unwrapped model again"
    return f"{text}. Missing weights would be drawn at random: save the whole model again, with the config it has"


def _wrapped(missing: list[str], unknown: list[str]) -> str | None:
    """What all names in the files have more than names of the model, as a wrapper around it or a part of it adds."""
    if not missing or not unknown:
        return None
    parts, wanted = unknown[0].split("."), set(missing)
    for start in range(len(parts)):
        for end in range(start + 1, len(parts)):
            more = ".".join(parts[start:end]) + "."
            if {name.replace(more, "", 1) for name in unknown} <= wanted:
                return more
    return None


def _first(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' progress bars and load reports out of the output; ours says what is wrong."""
    from transformers.utils import logging

    from splitray.training.process import deepspeed_environment

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        with deepspeed_environment():  # transformers imports DeepSpeed where it is installed
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def config_on_disk(path: Path) -> dict[str, Any]:
    try:
        config = json.loads((path / "config.json").read_text())
        if not isinstance(config, dict):
            raise ValueError("it is no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        where = " on this machine's disk; ~ and URIs are not followed" if str(path).startswith(_NO_FOLDER) else ""
        raise UserError(
            f"model path {path}: no readable config.json ({error}); give a Hugging Face folder{where}"
        ) from error
    if quantized := config.get("quantization_config"):
        method = quantized.get("quant_method") if isinstance(quantized, dict) else None
        raise UserError(
            f"model path {path}: its weights are quantized (quantization_config in config.json, method {method}), and "
            "training needs them whole: save a dequantized model"
        )
    if "auto_map" in config:
        from transformers import CONFIG_MAPPING

        if config.get("model_type") not in CONFIG_MAPPING:
            raise UserError(
                f"model path {path}: it needs code of its own ({config['auto_map']}), and code that comes with a model "
                "is never run (trust_remote_code stays off); give a model that transformers knows"
            )
    return config


def weight_files(path: Path) -> list[Path]:
    """The files that transformers loads: the single one, else those of the index; others beside them do not count."""
    if (path / _SINGLE).exists():
        return [path / _SINGLE]
    if (path / _INDEX).exists():
        try:
            named = json.loads((path / _INDEX).read_text())["weight_map"].values()
            names = sorted(set(named))
            outside = [name for name in names if "/" in name or "\\" in name]
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise UserError(f"model path {path}: {_INDEX} is no readable index ({error!r})") from error
        if outside or not names:
            raise UserError(
                f"model path {path}: {_INDEX} names {_first(outside) or 'no file'}; it names files beside it"
            )
        files = [path / name for name in names]
        if lost := [f.name for f in files if not f.exists()]:
            raise UserError(f"model path {path}: {_INDEX} names {_first(lost)}, which is not there; copy it again")
        return files
    others = sorted(f.name for f in path.glob("*.safetensors"))
    if others:
        raise UserError(
            f"model path {path}: neither {_SINGLE} nor {_INDEX}, only {_first(others)}; rename or save again"
        )
    raise UserError(f"model path {path}: no .safetensors files; pickled weights (.bin, .pt) are not loaded")


def checked_files(path: Path) -> list[Path]:
    """The weight files, every header read: a damaged or missing shard is an error here, not after hours."""
    from safetensors import SafetensorError, safe_open

    files = weight_files(path)
    for file in files:
        try:
            with safe_open(file, framework="np") as tensors:
                narrow = [n for n in tensors.keys() if n.endswith("weight") and _is_narrow(tensors.get_slice(n))]  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            why = "a Git LFS pointer: git lfs pull fetches the file" if _is_pointer(file) else error
            raise UserError(f"model path {path}: {file.name} is no readable safetensors file ({why})") from error
        if narrow:
            raise UserError(
                f"model path {path}: {file.name} holds quantized weights ({_first(narrow)}), which mean nothing "
                "without their scales: save a dequantized model"
            )
    return files


def _is_narrow(tensor: Any) -> bool:
    """Whether a tensor has 8 bits a number or fewer; training starts from 16 and 32."""
    return not str(tensor.get_dtype()).endswith(("16", "32", "64"))


def _is_pointer(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            return stream.read(len(_POINTER)) == _POINTER
    except OSError:
        return False


def folder_hash(path: Path) -> str:
    """Names the weights of a folder: a hash over its config and safetensors."""
    files = [(f, f.stat()) for f in weight_files(path)]
    return fingerprint([config_on_disk(path), [_hashed(f, s.st_size, s.st_mtime_ns) for f, s in files]])


@lru_cache(maxsize=64)
def _hashed(path: Path, size: int, modified: int) -> str:
    """The SHA-256 of a file, read once a process as long as it stays as it is: every segment asks again."""
    return sha256_file(path)


def _listing(files: Iterable[Path]) -> list[tuple[str, int, int]]:
    return [(f.name, s.st_size, s.st_mtime_ns) for f in files for s in [f.stat()]]
