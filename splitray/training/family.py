"""Model families: what a kind of model needs to be trained here, in one class, and the registry of them.

`llama` builds from a shape, `folder` continues any causal LM on disk. A family of your own is a class with a name and
`build`; the other methods have defaults that suit most models of `transformers`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from splitray.errors import UserError

if TYPE_CHECKING:
    import torch

    from splitray.training.settings import ModelShape


@dataclass(frozen=True)
class Size:
    """Parameter counts of a model. `params` is the law's N: all weights but the input embedding table."""

    params: int
    total: int
    hidden: int
    layers: int


@dataclass(frozen=True)
class ModelSpec:
    """What a family builds a model from: the shape of the configuration and what the training adds to it."""

    shape: "ModelShape"
    vocab: int
    end_token: int
    sequence_length: int
    tie_embeddings: bool
    rope_theta: float


class Packing(Enum):
    """How a model keeps documents of one sequence apart, where attention must not cross them.

    MASK: it is given positions that restart and a boolean mask. Its attention must take that mask as it is.
    POSITIONS: it is given positions that restart, and makes masks of the right kind itself, windows included.
    ROWS: every document is a row of its own. That suits any causal model, and costs the padding of the rows.
    """

    MASK = "mask"
    POSITIONS = "positions"
    ROWS = "rows"


@dataclass(frozen=True)
class PlainHead:
    """A model whose logits are `bent(trunk(...).last_hidden_state @ weight.T + bias)` and nothing else.

    `bent(x)` is `scale * x`, and with a `cap` then `cap * tanh(scale * x / cap)`, as Gemma 2 has it. A family of your
    own may give trunk and weight only.
    """

    trunk: "torch.nn.Module"
    weight: "torch.Tensor"
    bias: "torch.Tensor | None" = None
    scale: float = 1.0
    cap: float | None = None

    @property
    def bare(self) -> bool:
        """Whether logits are the matrix product alone."""
        return self.bias is None and self.scale == 1.0 and self.cap is None


class Family(ABC):
    """One kind of model. Only `name` and `build` must be given."""

    name: ClassVar[str]

    @abstractmethod
    def build(self, spec: ModelSpec) -> "torch.nn.Module":
        """A causal LM with fresh weights, fp32; called on a process's own device or under `torch.device("meta")`.

        Its forward pass takes `input_ids` int64 [batch, length] and `use_cache`, and gives `.logits`
        [batch, length, vocabulary]. torch's seed is set before, and nothing else may decide the weights.
        """

    def check(self, shape: "ModelShape") -> None:  # noqa: B027 - an empty default, not a forgotten method
        """Raise ValueError, with the fields and their values, where the shape cannot be built."""

    def size(self, spec: ModelSpec) -> Size:
        """Counts of the model; by default it is built without memory and counted."""
        import torch

        with torch.device("meta"):
            model = self.build(spec)
        return count(model, spec.shape.width, spec.shape.depth)

    def head(self, model: "torch.nn.Module") -> PlainHead | None:
        """The model's head where it is plain, so that the loss needs no array of all logits; None is always right."""
        return None

    def attention(self, model: "torch.nn.Module") -> str | None:
        """The attention implementation of `transformers` to train with; None leaves the model's own."""
        return None

    def packing(self, spec: ModelSpec) -> Packing:
        """How documents are kept apart; ROWS is always right."""
        return Packing.ROWS

    def parameter_groups(self, model: "torch.nn.Module", weight_decay: float) -> "list[dict[str, Any]]":
        """Groups of AdamW; by default vectors (norms and biases) have no weight decay."""
        decayed = [p for p in model.parameters() if p.dim() >= 2]
        plain = [p for p in model.parameters() if p.dim() < 2]
        groups: list[dict[str, Any]] = [{"params": decayed, "weight_decay": weight_decay}]
        return groups + ([{"params": plain, "weight_decay": 0.0}] if plain else [])


F = TypeVar("F", bound=type[Family])
REGISTRY: dict[str, Family] = {}


def register(family: F) -> F:
    """Make a family known under its name: `model: {family: NAME}`."""
    REGISTRY[family.name] = family()
    return family


def find(name: str) -> Family:
    """The family of that name.

    `MODULE:NAME` imports the module first. Training processes need that: what a script has registered by itself is
    unknown in them.

    Raises:
        UserError: no such family; the known ones are listed.
    """
    import splitray.training.folder
    import splitray.training.llama  # noqa: F401 - both register themselves

    module, _, plain = name.rpartition(":")
    if module:
        try:
            import_module(module)
        except ImportError as error:
            raise UserError(f"model family {name!r}: the module {module!r} cannot be imported ({error})") from error
    if plain not in REGISTRY:
        raise UserError(
            f"model family {name!r} is not known; known families: {', '.join(REGISTRY)}; one of your own is named "
            "MODULE:NAME, so that every process imports its module"
        )
    return REGISTRY[plain]


def count(model: Any, hidden: int, layers: int) -> Size:
    """Counts of a built causal LM: every parameter once, and N without the input table unless the head shares it."""
    table, head = model.get_input_embeddings().weight, model.get_output_embeddings()
    total = sum(p.numel() for p in model.parameters())
    shared = head is not None and getattr(head, "weight", None) is table
    return Size(total if shared else total - int(table.numel()), total, hidden, layers)
