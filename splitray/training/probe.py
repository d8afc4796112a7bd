"""The probe of a model that is not ours: does it see the future, and how can it keep packed documents apart?

A small copy of the model (its own class and widths, few layers, fresh weights, a short window) answers on the CPU in
fp32. What a token's prediction depends on is a matter of the architecture, not of the weights.
"""

import copy
import json
import math
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from splitray.errors import UserError
from splitray.storage.checksum import fingerprint
from splitray.training.family import Packing

if TYPE_CHECKING:
    import torch

_VOCAB, _END = 96, 0
_DOCUMENTS = (9, 1, 6, 12)  # tokens, end tokens included: longer and shorter than the window
_LENGTH = sum(_DOCUMENTS)
_WINDOW = 4  # what sliding windows are cut to, so that the documents reach beyond them
PROBED_TOKENS = 40  # what learned positions are cut to; the probe's rows are shorter
_PARAMETERS = 3e8  # of the small copy, at most where layers can be left out: 1.2 GB, some seconds
_LEAK = 1e-3  # of the effect that a visible token has; rounding in fp32 is below 1e-5 of it
_RESERVED = 4  # declared positions that an architecture keeps for itself, at most
_NUMBER = re.compile(r"\.\d+\.")
_WINDOW_FIELD = re.compile(r"(^|_)(window|window_size|attention_chunk_size|local_attention)$")


@dataclass(frozen=True)
class Probed:
    """What a model can do.

    `causal`: predictions do not move when later tokens change. `apart`: the ways in which packed documents have the
    predictions that they have alone, best first. `reserved`: declared positions that no token can have, where longer
    sequences fail; None where they run. `idle`: parameters that text gives no gradient.
    """

    causal: bool
    apart: tuple[Packing, ...]
    reserved: int | None
    idle: tuple[str, ...]

    @property
    def packing(self) -> Packing:
        assert self.apart, "a model that cannot keep documents apart is refused before"
        return self.apart[0]


def probe_folder(path: Path) -> Probed:
    """What the model of a folder can do, asked once a process; raises UserError where it cannot be tried."""
    return _probe_config(path, fingerprint(json.loads((path / "config.json").read_text())))


@lru_cache(maxsize=16)
def _probe_config(path: Path, state: str) -> Probed:
    from transformers import AutoConfig

    from splitray.training.folder import quiet

    with quiet():
        return probe_config(AutoConfig.from_pretrained(path, trust_remote_code=False, local_files_only=True))


def probe_config(config: Any) -> Probed:
    """Probe a small copy of the model that `AutoModelForCausalLM` makes of a config; the first copy that runs."""
    import torch
    from transformers import AutoModelForCausalLM

    why: Exception | None = None
    for layers, positions in ((True, True), (True, False), (False, True), (False, False)):
        try:
            small, limit = _small(config, layers, positions)
            with torch.random.fork_rng(devices=[]):
                model = AutoModelForCausalLM.from_config(small, trust_remote_code=False).float()
            return probe(model, limit)
        except Exception as error:  # a cut that this architecture does not take raises whatever its code meets
            why = why or error
    reason = (str(why).strip() or repr(why)).splitlines()[0]
    raise UserError(f"a small copy of {config.model_type} does not run on a CPU: {reason}") from why


def _small(config: Any, layers: bool, positions: bool) -> tuple[Any, int | None]:
    """A config with a small table and window, and the positions that it then declares (None: as many as it had).

    Args:
        layers: leave out layers of a large model.
        positions: declare few positions.
    """
    small = copy.deepcopy(config)
    text = small.get_text_config(decoder=True)
    for name, value in list(text.to_dict().items()):
        if _WINDOW_FIELD.search(name) and isinstance(value, int) and value > _WINDOW:
            setattr(text, name, _WINDOW)
    if getattr(text, "vocab_size", 0) > _VOCAB:
        text.vocab_size = _VOCAB
        for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
            if getattr(text, name, None) is not None:
                setattr(text, name, _VOCAB - 1)
    declared = declared_positions(text)
    limit = min(declared, PROBED_TOKENS) if positions and declared is not None else None
    if limit is not None:
        text.max_position_embeddings = limit
    if layers:
        _cut_layers(text)
    return small, limit


def declared_positions(text: Any) -> int | None:
    """The positions that a config declares; some have no such field, and some raise where it is asked for."""
    try:
        found = text.max_position_embeddings
    except (AttributeError, NotImplementedError):
        return None
    return found if isinstance(found, int) else None


def _cut_layers(text: Any) -> None:
    """Leave out layers of a large model, as long as every kind of layer is among those that stay."""
    depth = getattr(text, "num_hidden_layers", None)
    width = getattr(text, "hidden_size", None)
    if not isinstance(depth, int) or not isinstance(width, int):
        return
    by_layer = {n: v for n, v in text.to_dict().items() if isinstance(v, list) and len(v) == depth}
    kinds = [list(zip(*map(_hashable, by_layer.values()), strict=True))] if by_layer else []
    needed = max((max(k.index(kind) for kind in set(k)) + 1 for k in kinds), default=2)
    keep = max(needed, 2, int(_PARAMETERS / (12 * width * width)))
    if keep >= depth:
        return
    text.num_hidden_layers = keep
    for name, values in by_layer.items():
        setattr(text, name, values[:keep])


def _hashable(values: list[Any]) -> list[str]:
    return [json.dumps(v, sort_keys=True, default=str) for v in values]


def probe(model: Any, limit: int | None = None, end_token: int = _END) -> Probed:
    """Probe a causal LM of any weights, which are drawn anew.

    Args:
        limit: positions that its config declares, where a longer sequence is to be tried.
    """
    import torch

    rows = int(model.get_input_embeddings().weight.shape[0])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _redraw(model)
        model.eval()
        tokens = torch.randint(1, min(rows, _VOCAB) - 1, (1, _LENGTH))
        with torch.no_grad():
            causal, effect = _causal(model, tokens)
            ends = torch.tensor(_DOCUMENTS).cumsum(0) - 1
            tokens[0, ends] = end_token
            apart = tuple(p for p in (Packing.POSITIONS, Packing.ROWS) if _apart(model, tokens, end_token, p, effect))
            reserved = _reserved(model, limit) if limit is not None else None
        idle = _idle(model)
    return Probed(causal, apart if causal else (), reserved, idle)


def _redraw(model: "torch.nn.Module") -> None:
    """Weights of unit gain: with those that training starts from, one token hardly moves another's prediction."""
    import torch
    from transformers.pytorch_utils import Conv1D

    for module in model.modules():
        if isinstance(module, torch.nn.Embedding):
            torch.nn.init.normal_(module.weight)
        elif isinstance(module, torch.nn.Linear | Conv1D):
            inputs = module.weight.shape[1 if isinstance(module, torch.nn.Linear) else 0]
            torch.nn.init.normal_(module.weight, std=1 / math.sqrt(inputs))


def _predictions(logits: "torch.Tensor") -> "torch.Tensor":
    """Log probabilities of every next token: losses at any target are among them."""
    return logits.double().log_softmax(-1)


def _causal(model: Any, tokens: "torch.Tensor") -> tuple[bool, float]:
    """Whether changing all tokens from a place on leaves every earlier prediction, and how far it moves the others."""
    import torch

    length = tokens.shape[1]
    changed = tokens.repeat(length, 1)
    other = 1 + (tokens[0] + torch.randint(1, 20, (length,))) % (int(tokens.max()) + 1)
    for place in range(1, length):
        changed[place, place:] = other[place:].clamp(max=int(tokens.max()))
    found = _predictions(model(input_ids=changed, use_cache=False).logits)
    moved = (found - found[0]).abs().amax(-1)
    before = torch.tril(torch.ones(length, length, dtype=torch.bool), diagonal=-1)  # [changed from, place]
    # a change that ends one place back shows that the past is seen at all
    past = tokens.clone()
    past[0, -3:-1] = other[-3:-1].clamp(max=int(tokens.max()))
    alone = (_predictions(model(input_ids=t, use_cache=False).logits) for t in (past, tokens))
    effect = float((next(alone) - next(alone)).abs()[0, -1].max())
    if not math.isfinite(effect) or effect == 0:
        raise ValueError("predictions do not depend on earlier tokens")
    return bool(moved[before].max() <= _LEAK * effect), effect


def _apart(model: Any, tokens: "torch.Tensor", end_token: int, packing: Packing, effect: float) -> bool:
    """Whether documents packed in this way have the predictions that they have alone."""
    import torch

    from splitray.training.packing import packed_logits

    alone = torch.cat(
        [_predictions(model(input_ids=d, use_cache=False).logits) for d in tokens.split(list(_DOCUMENTS), dim=1)], dim=1
    )
    try:
        packed = _predictions(packed_logits(model, tokens, end_token, packing))
    except Exception:  # the model does not take such inputs, and says so in its own way
        return False
    return bool((packed - alone).abs().max() <= _LEAK * effect)


def _reserved(model: Any, limit: int) -> int | None:
    """How many of the declared positions no token can have (RoBERTa: 2), or None where longer sequences run."""
    if _runs(model, limit + 1):
        return None
    return next((n for n in range(_RESERVED) if _runs(model, limit - n)), _RESERVED)


def _runs(model: Any, length: int) -> bool:
    import torch

    try:
        model(input_ids=torch.randint(2, model.get_input_embeddings().weight.shape[0], (1, length)), use_cache=False)
    except (IndexError, RuntimeError):
        return False
    return True


def _idle(model: Any) -> tuple[str, ...]:
    """Parameters that no text reaches, such as those of an image encoder; an expert that is not chosen is none."""
    import torch

    tokens = torch.randint(2, model.get_input_embeddings().weight.shape[0], (1, PROBED_TOKENS - _RESERVED))
    model(input_ids=tokens, use_cache=False).logits.float().logsumexp(-1).sum().backward()
    named = [(_NUMBER.sub(".*.", n), n, p.grad is not None) for n, p in model.named_parameters() if p.requires_grad]
    reached = {pattern for pattern, _, has in named if has}
    return tuple(name for pattern, name, _ in named if pattern not in reached)
