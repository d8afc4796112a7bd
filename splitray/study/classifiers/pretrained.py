"""A text classifier of `transformers` that exists already, by the path of its folder; its weights are not trained."""

import json
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import Field

from splitray.errors import CorruptError, UserError
from splitray.settings import Settings
from splitray.storage.checksum import sha256_file
from splitray.study.classifiers.classifier import TopicClassifier, register_classifier

_FILES = "model-files.json"
_UNREAD = (".md", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".onnx")  # beside a model; only safetensors are opened


class PretrainedSettings(Settings):
    """Which model, and which of its labels is the topic."""

    path: str = Field(min_length=1, description="Local folder of a text-classification model (safetensors only).")
    label: str = Field(min_length=1, description="The model's label that means the topic.")
    tokens: int = Field(256, ge=8, description="Tokens of a document that the model reads; the rest is cut off.")
    batch: int = Field(16, ge=1, description="Documents read at once.")


@register_classifier
class PretrainedClassifier(TopicClassifier):
    """The model, its tokenizer, and the place of the topic's label.

    The weights stay where they are. What is saved names their files by checksums, so that another model in the same
    folder is neither taken for this one, nor its scores for this one's.
    """

    name = "pretrained"
    settings_class = PretrainedSettings

    def __init__(self, settings: PretrainedSettings) -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        folder = Path(settings.path).expanduser().resolve()
        if not folder.is_dir():
            raise UserError(f"classifier path {settings.path}: no such folder; give a local folder of a model")
        self.settings = settings = settings.model_copy(update={"path": str(folder)})
        self._files = _checksums(folder)
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(
                settings.path, local_files_only=True, trust_remote_code=False
            )
            model = AutoModelForSequenceClassification.from_pretrained(
                settings.path, local_files_only=True, use_safetensors=True, trust_remote_code=False
            )
        except (OSError, ValueError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"classifier path {settings.path}: it cannot be loaded: {reason:.300}") from error
        self._model = model.eval()
        labels = {str(name): int(place) for place, name in model.config.id2label.items()}
        if settings.label not in labels:
            raise UserError(
                f"classifier label {settings.label!r}: the model {settings.path} has {', '.join(labels)}; name one"
            )
        self._place = labels[settings.label]

    @classmethod
    def fit(cls, texts: list[str], labels: np.ndarray, settings: PretrainedSettings, seed: int) -> Self:
        return cls(settings)

    def log_odds(self, texts: list[str]) -> np.ndarray:
        import torch

        parts = []
        with torch.inference_mode():
            for at in range(0, len(texts), self.settings.batch):
                given = self._tokenizer(
                    texts[at : at + self.settings.batch],
                    padding=True,
                    truncation=True,
                    max_length=self.settings.tokens,
                    return_tensors="pt",
                )
                logits = self._model(**given).logits.double()
                if logits.shape[1] == 1:
                    parts.append(logits[:, 0])
                    continue
                others = torch.cat([logits[:, : self._place], logits[:, self._place + 1 :]], dim=1)
                parts.append(logits[:, self._place] - others.logsumexp(dim=1))
        odds: np.ndarray = torch.cat(parts).numpy()
        return odds

    def save(self, folder: Path) -> None:
        super().save(folder)
        (folder / _FILES).write_text(json.dumps(self._files, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path, settings: Any) -> Self:
        """Open the model that was saved.

        Raises:
            UserError: its folder is gone, or holds other files now.
        """
        try:
            files = json.loads((folder / _FILES).read_text())
        except (OSError, ValueError) as error:
            raise CorruptError(f"{folder}/{_FILES} names no files: {error}") from error
        made = cls(settings)
        if changed := sorted({name for name, _ in files.items() ^ made._files.items()}):
            raise UserError(
                f"classifier path {settings.path}: {changed[0]} is not the file that the filter was made with; put "
                "that model back, or fit the filter anew"
            )
        return made


def _checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of the files that may decide what a model says, by name."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name[0] != ".")
    return {path.name: sha256_file(path) for path in files if path.suffix not in _UNREAD}
