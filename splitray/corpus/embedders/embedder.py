"""What an embedder is: documents to unit vectors.

A document that says nothing (no words, not finite) becomes a zero vector.
"""

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from splitray.errors import CorruptError
from splitray.settings import Settings

_DESCRIPTION = "embedder.json"


class NoSettings(Settings):
    """For an embedder that has nothing to set."""


@dataclass(frozen=True)
class Pool:
    """Actors that keep a model: what each asks of Ray."""

    cpus: int = 1
    gpus: float = 0.0


class Embedder(ABC):
    """Base of all embedders. A new one is one class under `@register_embedder`; only `embed` has to be written.

    name: the value of `corpus.embedder` that means it.
    section: the key of its settings below `corpus`; the name where it is left out.
    settings_class: the class of its settings; what the vectors depend on belongs there, and so into the corpus key.
    needs_sample: whether `fit` wants the text of the sample; reading it takes a pass over the corpus.
    """

    name: ClassVar[str]
    section: ClassVar[str]
    settings_class: ClassVar[type[Settings]] = NoSettings
    needs_sample: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" in cls.__dict__ and "section" not in cls.__dict__:
            cls.section = cls.name

    settings: Any  # an object of `settings_class`

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @abstractmethod
    def embed(self, texts: list[str]) -> np.ndarray:
        """Unit vectors, float32 of shape (texts, dimensions); a row of zeros where there is nothing to embed.

        A text's vector must not depend on the texts beside it. `unit` brings rows to length 1.
        """

    @classmethod
    def fit(cls, texts: list[str], settings: Any, seed: int) -> Self:
        """An embedder fitted on training documents, which come in a fixed order (none unless `needs_sample`)."""
        return cls(settings)

    def save(self, folder: Path) -> None:
        """Write all that `load` reads."""
        describe(folder, self.name, self.settings.identity())

    @classmethod
    def load(cls, folder: Path, gpu: bool = False, threads: int | None = None) -> Self:
        """Open what `save` wrote.

        Args:
            gpu: whether to run on a GPU; the build's actors may hold one, the router's process holds none.
            threads: CPU threads of this process from now on; None leaves them as they are.
        """
        return cls(cls.settings_class(**described(folder)["settings"]))

    @classmethod  # noqa: B027 - most embedders need nothing
    def check(cls, settings: Any) -> None:
        """Raise a `UserError` where this process cannot embed by these settings.

        The main job asks before its first stage, because its last one routes text in the job's own process.
        """

    @classmethod
    def pool(cls, settings: Any) -> Pool | None:
        """The actors that embed; None where plain tasks of one CPU do, as for all that loads in a moment."""
        return None


def describe(folder: Path, kind: str, settings: dict[str, Any] | None = None) -> None:
    """Write the file by which an embedder is found again."""
    folder.mkdir(parents=True, exist_ok=True)
    description = {"kind": kind} if settings is None else {"kind": kind, "settings": settings}
    (folder / _DESCRIPTION).write_text(json.dumps(description) + "\n")


def described(folder: Path) -> dict[str, Any]:
    """What `describe` wrote: `kind` and, unless it was left out, `settings`.

    Raises:
        CorruptError: the file is none of ours.
    """
    try:
        description = json.loads((folder / _DESCRIPTION).read_text())
    except ValueError as error:
        raise CorruptError(f"{folder}/{_DESCRIPTION} is not JSON: {error}") from error
    if not isinstance(description, dict) or not isinstance(description.get("kind"), str):
        raise CorruptError(f"{folder}/{_DESCRIPTION} names no embedder")
    return description


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1 as contiguous float32; rows that are zero or not finite become zero."""
    vectors = np.asarray(vectors, dtype=np.float32)
    length = np.sqrt((vectors * vectors).sum(axis=1))
    good = np.isfinite(length) & (length > 1e-6)
    return np.where(good[:, None], vectors / np.where(good, length, 1)[:, None], 0).astype(np.float32)
