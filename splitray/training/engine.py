"""The DeepSpeed engine behind a small door: one optimizer step, and the world-free state in and out.

DeepSpeed's own checkpoints are pickles tied to a world size and a ZeRO stage; the state here is neither. A process of
its own gives it whole, and a rank of a group what it owns: nothing is gathered. Reading it needs no conversion.
"""

import math
import os
import resource
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist

from splitray.errors import UserError
from splitray.runtime.compat import link_moments, skip_reduction
from splitray.training.copies import Copier, Reading
from splitray.training.fragments import Fragment, fragments, owned, shape_of
from splitray.training.head import NextToken
from splitray.training.model import family_of, trained
from splitray.training.prepare import prepare
from splitray.training.process import deepspeed_environment
from splitray.training.recipe import Recipe
from splitray.training.settings import TrainingSettings
from splitray.training.shards import MOMENTS, Shard
from splitray.training.state import State


def pinned(device: torch.device) -> Callable[[tuple[int, ...]], np.ndarray] | None:
    """What allocates batches so that a GPU copies them while it computes; None where there is no GPU."""
    if device.type != "cuda":
        return None

    def allocate(shape: tuple[int, ...]) -> np.ndarray:
        with torch.cuda.device(device):  # a thread begins on the first GPU, and would take memory there
            array: np.ndarray = torch.empty(shape, dtype=torch.int64, pin_memory=True).numpy()
        return array

    return allocate


class Step(NamedTuple):
    """`loss` of the global batch in nats per token, whether a step was `taken`, and the largest `stop` of all ranks."""

    loss: float
    taken: bool
    stop: int


class Engine:
    """A model in training on this rank.

    Args:
        model: with the weights to start from.
        recipe: the model's; optimizer, precision and batch are read of it.
        settings: operational fields only are read (ZeRO stage, micro-batch, compilation).
    """

    def __init__(self, model: torch.nn.Module, recipe: Recipe, settings: TrainingSettings) -> None:
        import deepspeed

        self.world, self.rank = dist.get_world_size(), dist.get_rank()
        self.stage = settings.stage(self.world)
        local = recipe.global_batch_size // self.world
        self.micro = largest_divisor(local, settings.micro_batch_size)
        self.accumulation = local // self.micro
        self._recipe = recipe
        self._table = table_rows(model)
        groups = _learning(family_of(recipe.shape).parameter_groups(model, recipe.weight_decay))
        optimizer = torch.optim.AdamW(
            groups, lr=0.0, betas=(recipe.beta1, recipe.beta2), eps=recipe.epsilon, fused=True
        )
        config: dict[str, Any] = {
            "train_batch_size": recipe.global_batch_size,
            "train_micro_batch_size_per_gpu": self.micro,
            "gradient_accumulation_steps": self.accumulation,
            "gradient_clipping": recipe.gradient_clip if self.stage else 0.0,
            "zero_optimization": {"stage": self.stage},
            "zero_allow_untested_optimizer": True,
            "steps_per_print": sys.maxsize,
            "timers": {"throughput": {"enabled": False}},  # it has the host wait for the GPU at every micro-batch
        }
        if recipe.precision == "bf16":
            config["torch_autocast"] = {"enabled": True, "dtype": "bfloat16"}
            if settings.reduction == "fp32":  # by default DeepSpeed sums gradients of linear layers in bf16
                config["torch_autocast"]["lower_precision_safe_modules"] = []
        self.lm, self._module = model, NextToken(model, recipe, whole=self.stage == 3)
        prepared = prepare(self._module, recipe, settings, self.micro, self.stage, self.world)
        self.compiled, self.checkpointing = prepared.compiled, prepared.checkpointing
        if self.stage == 3:
            os.environ.setdefault("LOCAL_RANK", "0")  # read in every forward pass of that stage
        with deepspeed_environment():
            self.engine = deepspeed.initialize(model=self._module, optimizer=optimizer, config=config)[0]
        self._alone = self.world == 1 and self.stage == 0
        if self._alone:
            skip_reduction(self.engine)
        self.device = self.engine.device
        self._params = list(trained(model).values())
        self.step_count, self._copier = 0, Copier(self.device)
        self.gradient_norm = math.nan  # before clipping, of the last step

    # one step

    def step(self, sequences: np.ndarray, learning_rate: float, stop: int = 0) -> Step:
        """One optimizer step on this rank's slice of the global batch.

        Args:
            sequences: int64 [global_batch_size / world, sequence_length + 1].
            stop: this rank's wish, any small int; the largest over all ranks comes back, so that all act alike.

        No step is taken where the loss or the gradient's norm is not finite.
        """
        check_tokens(int(sequences.max()), self._table)
        batch = torch.from_numpy(sequences).to(self.device, non_blocking=True)
        total = torch.zeros((), device=self.device)
        losses, room = [], self._module.room(sequences, self.micro)
        for micro in batch.split(self.micro):
            loss = self._loss(micro, room)
            losses.append(loss)
            total += loss.detach() / self.accumulation
            if self.accumulation > 1 and len(losses) < self.accumulation:
                self.engine.backward(loss)
                self.engine.step()
        asked = torch.full((), float(stop), device=self.device, dtype=torch.float64)  # a copy would wait for the GPU
        shared = torch.stack([total.double(), asked])
        if self.world > 1:
            mean = shared[:1].clone()
            dist.all_reduce(mean)
            dist.all_reduce(shared[1:], op=dist.ReduceOp.MAX)
            shared[0] = mean[0] / self.world
        for group in self.engine.optimizer.param_groups:
            group["lr"] = learning_rate
        reading = Reading(shared)
        self.engine.backward(losses[-1])  # before the host asks for the loss, or a GPU would stand idle meanwhile
        value, wish = reading.get()
        if not math.isfinite(value):
            self.engine.zero_grad()
            return Step(value, False, int(wish))
        if self._alone:
            self._complete()
        taken = self._update()
        self.step_count += taken
        return Step(value, taken, int(wish))

    def _update(self) -> bool:
        """Clip and update; whether that was done, which it is not where the gradient is not finite.

        ZeRO skips such a step by itself. At stage 0 DeepSpeed would clip by NaN and take it.
        """
        if self.stage > 0:
            self._step()
            self.gradient_norm = float(self.engine.get_global_grad_norm() or math.nan)
            return bool(self.engine.was_step_applied())
        if self.device.type == "cuda":
            return self._update_on_device()
        self.gradient_norm = float(self._clip())
        if math.isfinite(self.gradient_norm):
            self._step()
        return math.isfinite(self.gradient_norm)

    def _update_on_device(self) -> bool:
        """`_update` without waiting for the norm: the fused optimizer clips, or does nothing, by what it finds there.

        It reads two fields that torch's GradScaler sets.
        """
        optimizer, limit = self._torch_optimizer, self._recipe.gradient_clip or math.inf
        norm = torch.nn.utils.get_total_norm([p.grad for p in self._params if p.grad is not None])
        optimizer.grad_scale = ((norm + 1e-6) / limit).clamp(min=1.0)  # gradients are divided by it
        optimizer.found_inf = (~norm.isfinite()).float()
        reading = Reading(norm)
        self._step()
        optimizer.grad_scale = optimizer.found_inf = None
        (self.gradient_norm,) = reading.get()
        return math.isfinite(self.gradient_norm)

    def _step(self) -> None:
        self._copier.before_update()
        self.engine.step()

    def memory(self) -> int:
        """Bytes that this process has held at most: of its GPU's memory, else of the machine's."""
        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self.device))
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

    def _complete(self) -> None:
        """Zeros for parameters that this batch did not reach (experts), as DeepSpeed's reduction gives them."""
        for param in self._params:
            if param.grad is None:
                param.grad = torch.zeros_like(param)

    def _clip(self) -> torch.Tensor:
        """Scale the averaged gradient down to the recipe's norm; the norm that it had."""
        limit = self._recipe.gradient_clip or math.inf
        return torch.nn.utils.clip_grad_norm_(self._params, limit)

    def _loss(self, sequences: torch.Tensor, room: int | None = None) -> torch.Tensor:
        inputs, targets = sequences[:, :-1], sequences[:, 1:]
        loss: torch.Tensor = self.engine(inputs, targets, room)
        return loss

    # state

    def state(self, moments: bool) -> State:
        """The world-free state, copied as `shard` does: of a process that trains alone, and holds all of it."""
        assert self.world == 1
        self._link_moments()
        params = trained(self.lm)
        kinds: tuple[str | None, ...] = (None, *MOMENTS) if moments else (None,)
        values, settle = self._copier.copy([self._read(p, kind) for kind in kinds for p in params.values()])
        copied = [dict(zip(params, values[at : at + len(params)])) for at in range(0, len(values), len(params))]
        held = {f"{kind}/{name}": each for kind, part in zip(MOMENTS, copied[1:]) for name, each in part.items()}
        return State(copied[0], held if moments else None, self.step_count, settle)

    def shard(self, moments: bool) -> Shard:
        """What this rank writes of the state of a group, copied. No collective.

        On a GPU the copy goes on beside the next step (see `Copier`), and the shard before this one has to be written.
        """
        self._link_moments()
        live = owned(self.lm, self.stage, self._torch_optimizer, moments)
        values, settle = self._copier.copy(list(live.values()))
        shapes = {name: shape_of(param) for name, param in trained(self.lm).items()}
        return Shard(dict(zip(live, values)), shapes, self.step_count, settle)

    def fragments(self) -> list[Fragment]:
        """The weights and moments that this rank holds, live. They exist; before any step a step of nothing is taken.

        Collective.
        """
        self._need_moments()
        return fragments(self.lm, self.stage, self._torch_optimizer, moments=True)

    def restore(self, state: State) -> None:
        """Set moments and step count; the weights are those the model was built with. Every rank calls it."""
        assert state.moments is not None
        self._need_moments()
        for name, param in trained(self.lm).items():
            for moment in MOMENTS:
                self._write(param, moment, state.moments[f"{moment}/{name}"])
        self.count_steps(state.step)

    def count_steps(self, steps: int) -> None:
        """Say how many steps the moments have seen."""
        for held in self._torch_optimizer.state.values():
            held["step"] = torch.full_like(torch.as_tensor(held["step"]), float(steps))
        self.step_count = steps

    def _need_moments(self) -> None:
        if not self._torch_optimizer.state:
            self._create_optimizer_states()
        self._link_moments()

    @property
    def _torch_optimizer(self) -> torch.optim.Optimizer:
        outer = self.engine.optimizer
        return outer if self.stage == 0 else outer.optimizer

    def _create_optimizer_states(self) -> None:
        """Moments exist only after a step: take one with a learning rate and a loss of zero, which changes nothing."""
        for group in self.engine.optimizer.param_groups:
            group["lr"] = 0.0
        tokens = torch.full((1, 2), self._recipe.end_token, device=self.device)
        with torch.compiler.set_stance("force_eager"):  # nothing is compiled for a shape that comes once
            for _ in range(self.accumulation):
                loss = self._loss(tokens) * 0.0
                self.engine.backward(loss)
                self.engine.step()
        self._link_moments()

    def _link_moments(self) -> None:
        """Stages 1 and 2 may have mapped parameters to their moments too early: have them mapped again."""
        if self.stage in (1, 2):
            link_moments(self.engine.optimizer)

    def _read(self, param: torch.nn.Parameter, moment: str | None) -> torch.Tensor:
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        if self.stage == 0:
            return param if moment is None else self._torch_optimizer.state[param][moment]
        return safe_get_full_fp32_param(param) if moment is None else safe_get_full_optimizer_state(param, moment)

    def _write(self, param: torch.nn.Parameter, moment: str, value: torch.Tensor) -> None:
        from deepspeed.utils import safe_set_full_optimizer_state

        if self.stage == 0:
            self._torch_optimizer.state[param][moment].copy_(value)
        else:
            safe_set_full_optimizer_state(param, value.to(self.device), moment)

    def close(self) -> None:
        self.engine.destroy()


def _learning(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Groups of an optimizer without the weights that are frozen."""
    left = [group | {"params": [p for p in group["params"] if p.requires_grad]} for group in groups]
    return [group for group in left if group["params"]]


def table_rows(model: Any) -> int:
    """Token ids that a causal LM has an embedding for."""
    return int(model.get_input_embeddings().weight.shape[0])


def check_tokens(largest: int, rows: int) -> None:
    """Refuse an id beyond the embedding table, which a GPU would answer with an abort of the process."""
    if largest >= rows:
        raise UserError(
            f"the text holds token {largest}, and the model has embeddings for {rows}: the tokenizer's added tokens "
            "occur in the text; set corpus.tokenizer.source to a tokenizer whose ids all lie in the model's table"
        )


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of `number` that is at most `limit`."""
    return next(d for d in range(min(number, limit), 0, -1) if number % d == 0)
