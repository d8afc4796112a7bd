"""The process group of a training: what all ranks say, learn and raise together. Each function is a collective.

An error that one rank meets becomes the error of all, instead of leaving the others to wait.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist

from splitray.errors import SplitrayError

T = TypeVar("T")
_SIDE_TIMEOUT = timedelta(hours=2)  # a rank may write its part of a state that much longer than another


def world_size() -> int:
    """Ranks of the group that `join_world` has joined."""
    return int(dist.get_world_size())


def rank() -> int:
    """This process's number in the group."""
    return int(dist.get_rank())


def sent(mine: torch.Tensor | None, count: int, source: int) -> torch.Tensor:
    """`count` fp32 numbers that rank `source` has as `mine`, in host memory on every rank. Collective."""
    device = torch.device("cuda") if dist.get_backend() == "nccl" else torch.device("cpu")
    values = mine.to(device) if mine is not None else torch.empty(count, device=device)
    dist.broadcast(values, src=source)
    return values


def on_every_rank(action: Callable[[], T]) -> T:
    """Run an action without collectives on every rank; where one of them fails, all raise its error. Collective."""
    outcome: T | SplitrayError
    try:
        outcome = action()
    except SplitrayError as error:
        outcome = error
    raise_first(all_of(outcome if isinstance(outcome, SplitrayError) else None))
    return cast(T, outcome)


def all_of(mine: Any, group: dist.ProcessGroup | None = None) -> list[Any]:
    """What every rank has, in their order. Collective."""
    if dist.get_world_size() == 1:
        return [mine]
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, mine, group=group)
    return found


def raise_first(found: list[Any]) -> None:
    """Raise the first error among some results."""
    for one in found:
        if isinstance(one, SplitrayError):
            raise one


_side: list[tuple[Any, dist.ProcessGroup]] = []  # of the process group that it belongs to


def side_group() -> dist.ProcessGroup:
    """All ranks over gloo, for a thread that works beside training. Collective where it is made."""
    if not _side or _side[0][0] is not dist.group.WORLD:
        _side[:] = [(dist.group.WORLD, dist.new_group(backend="gloo", timeout=_SIDE_TIMEOUT))]
    return _side[0][1]


def on_first_rank(action: Callable[[], T]) -> T:
    """Run an action on rank 0 alone; every rank gets its result, or raises its error. Collective.

    So a full disk or a damaged file that one rank meets ends all of them, instead of leaving the others to wait.
    """
    outcome: list[Any] = [None]
    if dist.get_rank() == 0:
        try:
            outcome = [action()]
        except SplitrayError as error:
            outcome = [error]
    if dist.get_world_size() > 1:
        dist.broadcast_object_list(outcome, src=0)
    if isinstance(outcome[0], SplitrayError):
        raise outcome[0]
    value: T = outcome[0]
    return value


def least(mine: list[int], device: torch.device) -> list[int]:
    """The smallest of every number over all ranks. Collective."""
    if dist.get_world_size() == 1:
        return mine
    said = torch.tensor(mine, dtype=torch.int64, device=device)
    dist.all_reduce(said, op=dist.ReduceOp.MIN)
    return [int(number) for number in said]
