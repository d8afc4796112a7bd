"""Embedders: documents to unit vectors. A document that says nothing (no words, not finite) becomes a zero vector."""

import importlib.util
import json
import warnings
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from threadpoolctl import threadpool_limits

from splitray.compat import native_bfloat16
from splitray.corpus.settings import SentenceSettings, TfidfSettings
from splitray.errors import CorruptError, UserError
from splitray.quiet import no_bars


class Embedder(Protocol):
    def embed(self, texts: list[str]) -> np.ndarray:
        """Unit vectors, float32 of shape (texts, dimensions); a row of zeros where there is nothing to embed."""
        ...

    def save(self, folder: Path) -> None: ...


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1 as contiguous float32; rows that are zero or not finite become zero."""
    vectors = np.asarray(vectors, dtype=np.float32)
    length = np.sqrt((vectors * vectors).sum(axis=1))
    good = np.isfinite(length) & (length > 1e-6)
    return np.where(good[:, None], vectors / np.where(good, length, 1)[:, None], 0).astype(np.float32)


class TfidfEmbedder:
    """Words hashed into buckets, sublinear TF-IDF, truncated SVD, centred.

    The mean is taken off because all text shares a large first component: on six sources 8 of 20 k-means starts then
    found the best optimum, 4 of 20 without.
    """

    def __init__(self, idf: np.ndarray, components: np.ndarray, mean: np.ndarray) -> None:
        self.idf, self.components, self.mean = idf, components, mean

    @staticmethod
    def fit(texts: list[str], settings: TfidfSettings, seed: int) -> "TfidfEmbedder":
        """Fit IDF (smoothed), SVD (randomized, Halko et al. 2011) and mean on training documents in a fixed order."""
        from sklearn.utils.extmath import randomized_svd

        counts = _count_words(texts, settings.features)
        seen = np.bincount(counts.indices, minlength=settings.features)
        idf = (np.log((1 + len(texts)) / (1 + seen)) + 1).astype(np.float32)
        weighted = _weigh(counts, idf)
        dimensions = max(1, min(settings.dimensions, len(texts) - 1, len(np.unique(counts.indices))))
        # One thread: the sums of several depend on how many there are.
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _, _, components = randomized_svd(
                weighted, n_components=dimensions, n_iter=settings.iterations, random_state=seed
            )
        components = np.ascontiguousarray(components.T, dtype=np.float32)
        mean = unit(weighted @ components).mean(axis=0)
        # A single kind of document would vanish with its own mean.
        if len(texts) < 3:
            mean = np.zeros_like(mean)
        return TfidfEmbedder(idf, components, mean)

    def embed(self, texts: list[str]) -> np.ndarray:
        # Row by row in sparse order: a row's bits do not depend on the batch it stands in.
        flat = unit(_weigh(_count_words(texts, len(self.idf)), self.idf) @ self.components)
        centred = unit(flat - self.mean)
        return np.where(flat.any(axis=1, keepdims=True), centred, np.float32(0))

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("idf", "components", "mean"):
            np.save(folder / f"{name}.npy", getattr(self, name), allow_pickle=False)
        (folder / "embedder.json").write_text(json.dumps({"kind": "tfidf"}) + "\n")

    @staticmethod
    def load(folder: Path) -> "TfidfEmbedder":
        names = ("idf", "components", "mean")
        return TfidfEmbedder(*(np.load(folder / f"{name}.npy", allow_pickle=False) for name in names))


def _count_words(texts: list[str], features: int) -> Any:
    from sklearn.feature_extraction.text import HashingVectorizer

    # Unsigned counts: buckets shared by two words then add and never cancel.
    vectorizer = HashingVectorizer(n_features=features, alternate_sign=False, norm=None, dtype=np.float32)
    return vectorizer.transform(texts)


def _weigh(counts: Any, idf: np.ndarray) -> Any:
    from sklearn.preprocessing import normalize

    weighted = counts.copy()
    weighted.data = (1 + np.log(weighted.data)) * idf[weighted.indices]
    return normalize(weighted, copy=False)


class SentenceEmbedder:
    """A sentence-transformers model, read from disk (or the hub, where the machine may).

    Whoever loads it decides on what it runs: the build's actors may hold GPUs, the router's process holds none (the
    driver stands on a head without one, or beside hosts whose training fills it).

    Args:
        gpu: whether to run on a GPU.
        threads: CPU threads of this process from now on; None leaves them as they are.

    Raises:
        UserError: the package, the model or the GPU is missing here, or the model brings pickles or code.
    """

    def __init__(self, settings: SentenceSettings, gpu: bool = False, threads: int | None = None) -> None:
        self.settings = settings
        folder = model_folder(settings.model)
        try:
            import torch
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise UserError(
                f"corpus.embedder = sentence-transformers cannot be imported here ({error}): install splitray with its "
                "extra on every node and where the job runs: pip install '.[cpu,sentence]'"
            ) from error
        if gpu and not torch.cuda.is_available():
            raise UserError(
                f"corpus.sentence.gpus asks for GPUs, but PyTorch {torch.__version__} sees none in the actor that "
                "embeds: install a CUDA build of it on the GPU nodes, or set corpus.sentence.gpus to 0"
            )
        if threads is not None:
            torch.set_num_threads(threads)
        try:
            with no_bars():
                self.model = SentenceTransformer(
                    folder,
                    device="cuda" if gpu else "cpu",
                    trust_remote_code=False,
                    model_kwargs={"use_safetensors": True},
                )
        except (OSError, ValueError, ImportError) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"corpus.sentence.model: {settings.model} cannot be loaded, as safetensors and without running code "
                f"that comes with it: {reason:.300}"
            ) from error
        self.model.max_seq_length = min(settings.max_tokens, self.model.max_seq_length or settings.max_tokens)
        self.precision = resolve_precision(settings)
        if self.precision == "bfloat16":
            self.model.bfloat16()

    def embed(self, texts: list[str]) -> np.ndarray:
        size = self.settings.batch_size
        vectors = self.model.encode(texts, batch_size=size, convert_to_tensor=True, show_progress_bar=False)
        return unit(vectors.float().cpu().numpy().reshape(len(texts), -1))

    def save(self, folder: Path) -> None:
        save_sentence(self.settings, folder)


def save_sentence(settings: SentenceSettings, folder: Path) -> None:
    """Describe a sentence embedder without loading its model: what it makes of a text, not where it runs.

    `auto` is resolved here, once for all who load it.
    """
    model_folder(settings.model)
    plain = {**settings.identity(), "precision": resolve_precision(settings)}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "embedder.json").write_text(json.dumps({"kind": "sentence-transformers", "settings": plain}) + "\n")


def load_embedder(folder: Path, gpu: bool = False, threads: int | None = None) -> Embedder:
    """Open what `save` wrote; `gpu` and `threads` are for `SentenceEmbedder`, others run on the CPU."""
    description = json.loads((folder / "embedder.json").read_text())
    if description["kind"] == "tfidf":
        return TfidfEmbedder.load(folder)
    if description["kind"] == "sentence-transformers":
        return SentenceEmbedder(SentenceSettings(**description["settings"]), gpu, threads)
    raise CorruptError(f"{folder}/embedder.json names an unknown embedder {description['kind']!r}")


def model_folder(model: str) -> str:
    """The path or hub name that `model` means; `package:NAME` is the folder of an installed package that holds
    a sentence-transformers model."""
    if not model.startswith("package:"):
        if pickled := next(Path(model).rglob("pytorch_model.bin"), None):
            # The main model is asked for as safetensors; the small layers after it would load this
            raise UserError(f"corpus.sentence.model: {pickled} is pickled, which is not loaded: convert to safetensors")
        return model
    name = model.removeprefix("package:")
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"corpus.sentence.model: the Python package {name} is not installed")
    for root in spec.submodule_search_locations:
        found = sorted(Path(root).rglob("modules.json"))
        if found:
            return str(found[0].parent)
    raise UserError(f"corpus.sentence.model: the Python package {name} holds no sentence-transformers model")


def resolve_precision(settings: SentenceSettings) -> str:
    """What `auto` means here: bfloat16 on GPUs and on CPUs that multiply it natively.

    Measured with MiniLM, documents/s a core, float32 then bfloat16: 24 and 47 with AVX512-BF16 (128 tokens, AMD
    EPYC), 4 and 21 with AMX (256 tokens). Emulated bfloat16 is slower than float32.
    """
    if settings.precision != "auto":
        return settings.precision
    return "bfloat16" if settings.gpus > 0 or native_bfloat16() else "float32"
