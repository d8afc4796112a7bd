"""Settings of the models and of their training."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from splitray.errors import UserError
from splitray.settings import Settings, later, operational

_COMPILED_FROM = 10_000_000  # parameters


class ModelShape(Settings):
    """A model by its family and shape (Llama-style by default), or a causal LM on disk to continue from."""

    hidden: int | None = Field(None, ge=8, description="Width of the residual stream.")
    layers: int | None = Field(None, ge=1, description="Number of transformer blocks.")
    heads: int | None = Field(None, ge=1, description="Attention heads; default one per 32 of width, at least 2.")
    kv_heads: int | None = Field(None, ge=1, description="Key-value heads; default as many as heads.")
    intermediate: int | None = Field(
        None, ge=8, description="MLP width; default 8/3 of hidden, up to a multiple of 16."
    )
    path: str | None = Field(
        None, description="Local folder of a Hugging Face causal LM to continue from (safetensors only)."
    )

    family: str | None = later(
        None, "Model family; default llama, or folder where path is given. One of your own is MODULE:NAME."
    )
    options: dict[str, bool | int | float | str] = later({}, "What a family of your own reads beside the dimensions.")

    def __hash__(self) -> int:
        return hash(self.model_dump_json())  # pydantic's own fails on the dictionary of options

    @model_validator(mode="after")
    def _one_kind(self) -> "ModelShape":
        dims = (self.hidden, self.layers)
        if self.path is not None and self.family not in (None, "folder"):
            raise ValueError(f"path is of the family folder, not {self.family}: give path or family, not both")
        if self.path is not None:
            if any(v is not None for v in (*dims, self.heads, self.kv_heads, self.intermediate)):
                raise ValueError("give either path or the dimensions (hidden, layers, ...), not both")
        elif None in dims:
            raise ValueError("give hidden and layers, or path")
        elif self.family_name == "folder":
            raise ValueError("the family folder needs path")
        else:
            self._check_family()
        return self

    def _check_family(self) -> None:
        from splitray.training.family import find

        try:
            family = find(self.family_name)
        except UserError as error:
            raise ValueError(str(error)) from error
        family.check(self)

    @property
    def family_name(self) -> str:
        return self.family or ("folder" if self.path is not None else "llama")

    @property
    def width(self) -> int:
        assert self.hidden is not None
        return self.hidden

    @property
    def depth(self) -> int:
        assert self.layers is not None
        return self.layers

    @property
    def head_count(self) -> int:
        return self.heads or max(2, self.width // 32)

    @property
    def kv_head_count(self) -> int:
        return self.kv_heads or self.head_count

    @property
    def mlp_width(self) -> int:
        return self.intermediate or -(-self.width * 8 // 3 // 16) * 16

    @property
    def label(self) -> str:
        if self.path:
            return self.path.rstrip("/").rsplit("/", 1)[-1]
        family = f"{self.family.rpartition(':')[2]}-" if self.family else ""
        return f"{family}h{self.hidden}-l{self.layers}"


@dataclass(frozen=True)
class Schedule:
    """What shapes a leaf beyond its recipe: its learning rate, and replay; see the fields of `TrainingSettings`."""

    decay_fraction: float
    specialist_lr_multiplier: float = 1.0
    replay_share: float = 0.0


class TrainingSettings(Settings):
    """How every segment is trained. The identity fields are part of every segment's key."""

    renamed: ClassVar[Mapping[str, str]] = {
        "batch_sequences": "global_batch_size",
        "micro_batch": "micro_batch_size",
        "decay_share": "decay_fraction",
        "final_learning_rate": "min_lr_ratio",
        "specialize_rate": "specialist_lr_multiplier",
    }

    sequence_length: int = Field(256, ge=8, description="Tokens a sequence.")
    global_batch_size: int = Field(32, ge=1, description="Sequences in the global batch, over all workers.")
    learning_rate: float = Field(4e-3, gt=0, description="Peak learning rate at reference_hidden.")
    reference_hidden: int = Field(64, ge=1, description="Width at which learning_rate is the peak.")
    learning_rate_exponent: float = Field(
        0.5, ge=0, le=1, description="The peak falls with width as (reference_hidden / hidden) ** this; 0 keeps it."
    )
    warmup_tokens: int = Field(
        32768, ge=0, description="Linear warm-up, a fixed number of tokens; at most 2 % of the ladder's smallest D."
    )
    decay_fraction: float = Field(0.15, gt=0, lt=1, description="Share of D + D' over which the learning rate decays.")
    min_lr_ratio: float = Field(
        0.05, ge=0, le=1, description="Learning rate at the end of the decay, as a share of the peak."
    )
    specialist_lr_multiplier: float = Field(
        1.0, gt=0, le=10, description="Learning rate after the split, over what the schedule gives without one."
    )
    replay_share: float = later(
        0.0,
        "Share r of a specialist's sequences that are the mixture's, so that it forgets less. They count in D'.",
        ge=0,
        lt=1,
    )
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW's first moment.")
    beta2: float = Field(0.95, ge=0, lt=1, description="AdamW's second moment.")
    epsilon: float = Field(1e-8, gt=0, description="AdamW's epsilon.")
    weight_decay: float = Field(0.1, ge=0, description="AdamW's weight decay, on matrices only.")
    gradient_clip: float = Field(1.0, ge=0, description="Global gradient norm above which it is scaled down; 0: never.")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="With bf16, autocast over fp32 weights; auto measures both once and keeps the answer in the run.",
    )
    attention_across_documents: bool = Field(
        True, description="Whether attention crosses the end token between packed documents."
    )
    shuffle_tokens: int | None = later(
        None,
        "Tokens of a domain that are shuffled together, in whole shards. Default: all, so that a machine keeps every "
        "shard of its domains. With less, such as 256M, shards are shuffled and pass by: for a corpus above its cache.",
        ge=1,
    )
    tie_embeddings: bool = Field(True, description="One table for input embedding and head.")
    rope_theta: float = Field(10000.0, gt=0, description="Base of the rotary positions.")

    zero_stage: Literal[0, 1, 2, 3] | None = operational(
        None,
        "DeepSpeed ZeRO stage; default 1 in a group, 0 for one worker: there it shards nothing and costs up to 7 %.",
    )
    reduction: Literal["fp32", "bf16"] = operational(
        "fp32",
        "Precision in which a group sums gradients where `precision` is bf16. bf16 halves what passes the network.",
    )
    micro_batch_size: int = operational(32, "Sequences a worker holds at once; the rest is accumulated.", ge=1)
    threads: int = operational(1, "CPU threads a training process uses; also the CPUs it reserves.", ge=1)
    compile: bool | Literal["blocks", "whole"] | None = operational(
        None,
        "Whether torch.compile is used; default on GPUs only, block by block, from 10M parameters on: a smaller model "
        "is trained before it is compiled. On a CPU true compiles the whole model: 1.1 to 1.3 times as fast, 10-40 s a "
        "shape.",
    )
    activation_checkpointing: Literal["auto", "none", "selective", "full"] = operational(
        "auto",
        "Whether blocks run again in the backward pass to save memory: all of it (full), or all but matrix products "
        "and attention (selective). auto takes the first of none, selective, full that fits a GPU; none on CPUs.",
    )
    exact: bool = operational(
        False,
        "Whether GPUs give the same bits when a run is repeated or resumed, as CPUs do anyway. It costs speed: 11 % "
        "of a step at 1.3B parameters on one H100, a quarter of tiny ones.",
    )
    checkpoint_seconds: float = operational(60.0, "A checkpoint inside a segment at least this often.", gt=0)

    @property
    def batch_tokens(self) -> int:
        return self.global_batch_size * self.sequence_length

    @property
    def worker_cpus(self) -> float:
        """CPUs that a training process reserves: a little less than its threads.

        A Tune trial waits for its leaves with 0.01 CPU (0 is refused by Tune). Were the hosts to hold every CPU whole,
        the trial they are to work for would never start.
        """
        return self.threads * 0.95

    def compiles(self, gpu: bool, params: int) -> Literal["blocks", "whole"] | None:
        """How a model of that N is compiled; by default blocks on GPUs where it is worth it, nothing on CPUs."""
        if self.compile is None:
            return "blocks" if gpu and params >= _COMPILED_FROM else None
        if isinstance(self.compile, bool):
            return ("blocks" if gpu else "whole") if self.compile else None
        return self.compile

    @property
    def schedule(self) -> Schedule:
        return Schedule(self.decay_fraction, self.specialist_lr_multiplier, self.replay_share)

    def stage(self, workers: int) -> int:
        """The ZeRO stage in a world of so many workers."""
        return self.zero_stage if self.zero_stage is not None else int(workers > 1)

    def peak(self, hidden: int) -> float:
        """Peak learning rate at a width. The rule of thumb lr ~ 1/sqrt(width) is ours; sweep it when it matters."""
        return float(self.learning_rate * (self.reference_hidden / hidden) ** self.learning_rate_exponent)

    def round_tokens(self, tokens: float) -> int:
        """The nearest whole number of batches, in tokens."""
        return round(tokens / self.batch_tokens) * self.batch_tokens
