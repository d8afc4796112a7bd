"""The router: which domain a text belongs to. Saved as .npy and JSON; needs no Ray."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from splitray.corpus.embedders import Embedder, find_embedder, load_embedder
from splitray.corpus.kmeans import nearest, scores
from splitray.corpus.settings import CorpusSettings
from splitray.errors import UserError
from splitray.storage.local import local_copy
from splitray.storage.redact import without_query


@dataclass(frozen=True)
class Placement:
    """Where the domains lie: `centroids` float32 (domains, dimensions), `offsets` float64 (domains,), zero unless the
    domains are balanced."""

    centroids: np.ndarray
    offsets: np.ndarray
    spherical: bool
    domains: list[str]

    def place(self, vectors: np.ndarray) -> np.ndarray:
        """The domain index of each vector, int64."""
        return nearest(vectors, self.centroids, self.spherical, self.offsets)

    def scores(self, vectors: np.ndarray) -> np.ndarray:
        """How near each domain is, float32 (vectors, domains): `place` takes the highest."""
        return scores(vectors, self.centroids, self.spherical, self.offsets)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "centroids.npy", self.centroids, allow_pickle=False)
        np.save(folder / "prices.npy", self.offsets, allow_pickle=False)
        description = {"spherical": self.spherical, "domains": self.domains}
        (folder / "router.json").write_text(json.dumps(description, indent=1) + "\n")

    @staticmethod
    def load(folder: Path) -> "Placement":
        description = json.loads((folder / "router.json").read_text())
        centroids, offsets = (np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("centroids", "prices"))
        return Placement(centroids, offsets, description["spherical"], description["domains"])


class Router:
    """Places texts by the nearest centroid, less its offset where domains are balanced.

    The build placed the training and the validation documents of its corpus by the same arithmetic.
    """

    def __init__(self, embedder: Embedder, placement: Placement) -> None:
        self.embedder, self.placement = embedder, placement

    @property
    def domains(self) -> list[str]:
        return self.placement.domains

    def route(self, texts: list[str]) -> np.ndarray:
        """The domain index of each text, int64 of shape (texts,)."""
        return self.placement.place(self.embedder.embed(texts))

    def scores(self, texts: list[str]) -> np.ndarray:
        """How near each domain is to each text, float32 of shape (texts, domains): `route` takes the highest."""
        return self.placement.scores(self.embedder.embed(texts))

    def save(self, folder: Path) -> None:
        self.placement.save(folder)
        self.embedder.save(folder / "embedder")

    def names(self, texts: list[str]) -> list[str]:
        """The domain of each text by name, which is also the name of its specialist's folder."""
        return [self.domains[index] for index in self.route(texts)]

    @staticmethod
    def load(folder: str | Path) -> "Router":
        """Open what `save` wrote, such as the folder `router` of a run. It holds NumPy arrays and JSON, no pickles.

        Args:
            folder: its path or URI. A sentence model is not in it: it is loaded from where its settings say, to the
                CPU.

        Raises:
            UserError: there is no router.
        """
        local = folder if isinstance(folder, Path) else local_copy(folder)
        try:
            return Router(load_embedder(local / "embedder"), Placement.load(local))
        except FileNotFoundError as error:
            raise UserError(
                f"{without_query(str(folder))} holds no router ({error.filename} is missing): give the folder `router` "
                "of a run"
            ) from error


def check_router(settings: CorpusSettings) -> None:
    """Ask the embedder whether the router will load in this process; a `UserError` says what is missing."""
    find_embedder(settings.embedder).check(settings.embedder_settings)
