"""What one rank holds of the weights and moments in training, by parameter and range: ZeRO's partitions, with names.

At stages 1 and 2 a rank owns a stretch of all parameters of a group laid end to end, at stage 3 an equal part of every
parameter. At stage 0 every rank holds everything. No communication is needed to read or write any of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from splitray.training.model import trained
from splitray.training.shards import MOMENTS, WEIGHTS, Piece, numel, shares


@dataclass(frozen=True)
class Fragment:
    """A range of one parameter that this rank holds: `values` are live 1-D views by kind."""

    name: str
    start: int
    values: dict[str, torch.Tensor]

    @property
    def stop(self) -> int:
        return self.start + len(self.values[WEIGHTS])

    def piece(self, kind: str) -> Piece:
        return Piece(kind, self.name, self.start, self.stop)


def shape_of(param: torch.nn.Parameter) -> tuple[int, ...]:
    """The shape of all of a parameter, which at stage 3 no rank holds."""
    return tuple(getattr(param, "ds_shape", param.shape))


def fragments(model: torch.nn.Module, stage: int, optimizer: torch.optim.Optimizer, moments: bool) -> list[Fragment]:
    """What this rank holds.

    Args:
        optimizer: torch's own, inside ZeRO's.
        moments: whether they are wanted; they exist after the first step only.
    """
    kinds = (WEIGHTS, *MOMENTS) if moments else (WEIGHTS,)
    found = []
    for name, param in sorted(trained(model).items()):
        if stage == 0:
            found.append(Fragment(name, 0, {kind: _whole(param, kind, optimizer) for kind in kinds}))
        elif stage == 3:
            found += _partition(name, param, kinds)
        else:
            found += _stretch(name, param, kinds)
    return found


def _whole(param: torch.nn.Parameter, kind: str, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    value: torch.Tensor = param.detach() if kind == WEIGHTS else optimizer.state[param][kind]
    return value.view(-1)


def _stretch(name: str, param: Any, kinds: tuple[str, ...]) -> Iterator[Fragment]:
    """Stages 1 and 2: the part of a parameter that lies in this rank's stretch of its group."""
    mapping = param._hp_mapping
    if mapping is not None:
        values = {kind: mapping.get_hp_fragment(None if kind == WEIGHTS else kind).detach() for kind in kinds}
        yield Fragment(name, mapping.lp_fragment_address.start, values)


def _partition(name: str, param: Any, kinds: tuple[str, ...]) -> Iterator[Fragment]:
    """Stage 3: this rank's part of a parameter, but for the padding behind the last element."""
    from deepspeed.utils import safe_get_local_fp32_param, safe_get_local_optimizer_state

    values = {
        kind: safe_get_local_fp32_param(param) if kind == WEIGHTS else safe_get_local_optimizer_state(param, kind)
        for kind in kinds
    }
    size = len(values[WEIGHTS])
    start = size * dist.get_rank()
    inside = min(size, numel(shape_of(param)) - start)
    if inside > 0:
        yield Fragment(name, start, {kind: value.detach()[:inside] for kind, value in values.items()})


def owned(
    model: torch.nn.Module, stage: int, optimizer: torch.optim.Optimizer, moments: bool
) -> dict[Piece, torch.Tensor]:
    """The live pieces that this rank writes: what it holds, or at stage 0 its even share of what all hold."""
    held = fragments(model, stage, optimizer, moments)
    if stage > 0:
        return {fragment.piece(kind): value for fragment in held for kind, value in fragment.values.items()}
    by_name = {fragment.name: fragment for fragment in held}
    shapes = {name: shape_of(param) for name, param in trained(model).items()}
    kinds = list(held[0].values)
    mine = shares(kinds, shapes, dist.get_world_size())[dist.get_rank()]
    return {piece: by_name[piece.name].values[piece.kind][piece.start : piece.stop] for piece in mine}
