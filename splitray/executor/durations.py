"""How long a segment takes on so many workers: by measured rates where there are any, else by the table. No Ray."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from splitray.executor.accelerators import Accelerator
from splitray.training.family import Size
from splitray.training.memory import step_bytes
from splitray.training.settings import TrainingSettings
from splitray.training.tree import Segment, flops

# What is left of a group's speed for each doubling of it. llm-foundry's 1B model: 45,455 tokens/s a GPU on 8 H100 and
# 44,402 on 64, which is 0.992 a doubling. Ours reduces in fp32, so more is taken off.
_DOUBLING = 0.98
_FORWARD = 1 / 3  # of a training step: what scoring takes
_SHARES = 4  # workers on one GPU at most: more have not been tried
_ROOM = 0.9  # of a GPU's memory, for all workers on it
_CONTEXT = 1.5 * 2**30  # bytes that CUDA and its libraries take in every process


@dataclass(frozen=True)
class Durations:
    """The times of a run's models on one kind of worker.

    Args:
        sizes: the run's models by their N.
        rates: measured tokens a second of one worker, by N. They go before the table; the key 0 is for every model.
        vocab: entries of the tokenizer.
        gpu: whether a worker is a GPU; else it is `training.threads` cores.
    """

    accelerator: Accelerator
    training: TrainingSettings
    sizes: Mapping[int, Size]
    vocab: int
    gpu: bool
    rates: Mapping[int, float] = field(default_factory=dict)

    def compiled(self, params: int) -> bool:
        """Whether steps of the model of that N are compiled."""
        return self.training.compiles(self.gpu, params) is not None

    def rate(self, params: int, workers: int = 1) -> float:
        """Tokens a second that `workers` workers train together of the model of that N."""
        alone = self.rates.get(params) or self.rates.get(0) or self._reckoned(params, workers)
        return float(alone * workers * _DOUBLING ** math.log2(workers))

    def _reckoned(self, params: int, workers: int) -> float:
        """Of one among `workers`: a micro-batch takes what its FLOPs take, and not less than the host needs for it."""
        tokens = min(self.training.micro_batch_size, max(1, self.training.global_batch_size // workers))
        tokens *= self.training.sequence_length
        work, host = self._micro_batch(params, tokens)
        return tokens / max(work, host)

    def _micro_batch(self, params: int, tokens: int) -> tuple[float, float]:
        """Seconds of the device and of the host for so many tokens."""
        size, device = self.sizes[params], self.accelerator
        compiled = self.compiled(params)
        share, launch = (device.compiled, device.launch_compiled) if compiled else (device.eager, device.launch)
        peak = device.peak * share * (1 if self.gpu else self.training.threads)
        work = flops(size.params, tokens, size.layers, size.hidden, self.training.sequence_length) / peak
        return work, launch * size.layers

    def share(self, params: int) -> float:
        """What a worker needs of a GPU: 1/n where n workers fit its memory and leave one another time, else 1."""
        return self._shares.get(params, 1.0)

    @cached_property
    def _shares(self) -> dict[int, float]:
        return {params: self._share(size) for params, size in self.sizes.items()} if self.gpu else {}

    def _share(self, size: Size) -> float:
        tokens = min(self.training.micro_batch_size, self.training.global_batch_size) * self.training.sequence_length
        work, host = self._micro_batch(size.params, tokens)
        held = self.held(size) + _CONTEXT
        fit = self.accelerator.memory * 2**30 * _ROOM / held
        return 1.0 / max(1, min(_SHARES, int(fit), int(max(work, host) / work)))

    def held(self, size: Size, workers: int = 1) -> float:
        """Bytes that a worker holds at the peak of a step of a model."""
        capacity = int(self.accelerator.memory * 2**30) if self.gpu else None
        return step_bytes(size, self.vocab, self.training, workers, self.compiled(size.params), capacity)

    def seconds(self, segment: Segment, workers: int = 1) -> float:
        """Of a segment: read its parent, train, publish."""
        params = segment.recipe.params
        training = segment.tokens / self.rate(params, workers)
        return self.accelerator.beside + self.reading(segment) + training + self.publishing(params, segment.final)

    def reading(self, segment: Segment) -> float:
        """Seconds until the parent's weights and moments are read."""
        return 12.0 * self.sizes[segment.recipe.params].total / self.accelerator.load if segment.parent else 0.0

    def publishing(self, params: int, final: bool) -> float:
        """Seconds until weights are published, and moments where children may start from them."""
        return (4.0 if final else 12.0) * self.sizes[params].total / self.accelerator.publish

    def scoring(self, params: int, tokens: int) -> float:
        """Seconds of one worker for the losses of a model on so many tokens."""
        return self.accelerator.beside + tokens * _FORWARD / self.rate(params)
