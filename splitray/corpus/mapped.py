"""Token shards that are opened when they are first read: by memory map, one download a machine."""

import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from splitray.errors import CorruptError
from splitray.storage import holds


class MappedShard:
    """One file of tokens. Its length is known beforehand, so nothing is read before a token is asked for.

    Args:
        name: for messages.
        tokens: how many there are.
        fetch: downloads the file where it lies elsewhere, and gives its local path, checked.
        held: the SHA-256 by which `fetch` holds a cached file; None where the file is no cached one.

    Several threads may use it. An array that was handed out stays readable after `close`.
    """

    def __init__(self, name: str, tokens: int, fetch: Callable[[], Path], held: str | None) -> None:
        self._name, self._tokens, self._fetch, self._held = name, tokens, fetch, held
        self._opening = threading.Lock()
        self._array: np.ndarray | None = None

    def __len__(self) -> int:
        return self._tokens

    def __getitem__(self, place: slice) -> np.ndarray:
        part: np.ndarray = self.open()[place]
        return part

    @property
    def is_remote(self) -> bool:
        """Whether the file has to be downloaded."""
        return self._held is not None

    @property
    def is_open(self) -> bool:
        return self._array is not None

    def open(self) -> np.ndarray:
        """The memory-mapped array, 1-D.

        Raises:
            CorruptError: the file is damaged, or of another length than recorded.
            StorageError: the storage does not give it, or the cache has no room for it.
        """
        with self._opening:
            if self._array is None:
                self._array = self._mapped()
            return self._array

    def _mapped(self) -> Any:
        path = self._fetch()
        try:
            array: Any = np.load(path, mmap_mode="r", allow_pickle=False)
        except BaseException:
            if self._held is not None:
                holds.release(self._held)
            raise
        if self._held is not None:
            # arrays cut out of this one keep the map, and with it the file
            weakref.finalize(array._mmap, holds.release, self._held).atexit = False
        if array.shape != (self._tokens,):
            raise CorruptError(f"{self._name} has {array.shape} tokens; its manifest records {self._tokens}")
        return array

    def close(self) -> None:
        """Forget the array; the map goes with the last array that was cut out of it."""
        with self._opening:
            self._array = None
