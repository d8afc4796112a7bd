"""The router as a folder of its own: it needs no store, no Ray and no pickle."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import splitray
from splitray.corpus.embedders import TfidfEmbedder, TfidfSettings
from splitray.corpus.kmeans import fit_centroids
from splitray.corpus.router import Placement, Router
from splitray.corpus.settings import ClusterSettings
from splitray.errors import UserError
from tests.support.configs import WORDS

KINDS = list(WORDS)
DRAW = np.random.default_rng(0)
TEXTS = [" ".join(DRAW.choice(WORDS[kind].split(), 30)) for kind in KINDS for _ in range(20)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    embedder = TfidfEmbedder.fit(TEXTS, TfidfSettings(dimensions=8), 0)
    vectors = embedder.embed(TEXTS)
    centroids = fit_centroids(vectors, len(KINDS), ClusterSettings(), 0)
    plain = Placement(centroids, np.zeros(len(KINDS)), True, ["?"] * len(KINDS))
    order = plain.place(vectors)[[0, 20, 40]]  # the cluster of each kind
    named = Placement(centroids, np.zeros(len(KINDS)), True, [KINDS[list(order).index(k)] for k in range(len(KINDS))])
    path = tmp_path_factory.mktemp("run") / "router"
    Router(embedder, named).save(path)
    return path


def test_a_text_goes_to_the_domain_of_its_words(folder: Path) -> None:
    for place in (folder, str(folder), folder.as_uri()):
        router = splitray.Router.load(place)
        assert router.names(TEXTS) == [kind for kind in KINDS for _ in range(20)]
        assert router.names(["the tribunal and the jury", "a gull over the reef"]) == ["court", "sea"]
        assert [router.domains[i] for i in router.route(TEXTS)] == router.names(TEXTS)


def test_it_is_arrays_and_json(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".npy", ".json"}
    for path in files:
        if path.suffix == ".npy":
            np.load(path, allow_pickle=False)


ALONE = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"ray", "torch", "deepspeed", "transformers"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
import splitray
print(*splitray.Router.load("moved").names(["whisk the dough"]))
"""


def test_moved_to_another_place_it_loads_without_the_engines(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "moved")
    done = subprocess.run([sys.executable, "-c", ALONE], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "kitchen\n", done.stderr[-2000:]


@pytest.mark.parametrize("lost", ["router.json", "centroids.npy", "embedder/embedder.json", ""])
def test_what_is_no_router_is_named(folder: Path, tmp_path: Path, lost: str) -> None:
    place = tmp_path / "copy"
    if lost:
        shutil.copytree(folder, place)
        (place / lost).unlink()
    with pytest.raises(UserError, match=r"copy holds no router .* give the folder `router` of a run"):
        Router.load(str(place))
