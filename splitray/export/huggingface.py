"""Write a published segment as a Hugging Face model folder: safetensors, config and tokenizer."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from splitray.errors import CorruptError
from splitray.results.folders import CARD
from splitray.runtime.quiet import environment, no_bars
from splitray.storage.folder import Folder
from splitray.storage.store import Store


def export(store: Store, key: str, tokenizer: Path, target: Folder, card: dict[str, Any]) -> None:
    """Write the model of a segment into a folder of the run.

    Args:
        tokenizer: a folder that `AutoTokenizer` loads.
        card: what the model is, written as `splitray.json` beside it; that file is written last.

    Raises:
        CorruptError: the segment is missing or damaged; it is withdrawn then, so that the next start trains it.
    """
    from transformers import AutoTokenizer

    from splitray.training.loop import load_weights
    from splitray.training.model import build
    from splitray.training.recipe import Recipe
    from splitray.training.state import load

    published = store.find(key)
    if published is None:
        raise CorruptError(f"the store {store.root.uri} holds no {key}; start the run again to train it")
    with store.invalidating(published):
        model: Any = build(Recipe.from_json(published.recorded("recipe")))
        load_weights(model, load(published, moments=False))
    with tempfile.TemporaryDirectory(prefix="splitray-export-") as folder, _silence():
        model.save_pretrained(folder)  # safetensors is all that transformers 5 writes
        AutoTokenizer.from_pretrained(tokenizer, trust_remote_code=False, local_files_only=True).save_pretrained(folder)
        for path in sorted(p for p in Path(folder).rglob("*") if p.is_file()):
            target.put(path, path.relative_to(folder).as_posix())
    target.write_json(CARD, {"key": key, **card})


@contextmanager
def _silence() -> Iterator[None]:
    """transformers draws a bar, and imports DeepSpeed where there is one, which warns of a device that it guessed."""
    import torch

    device = {} if torch.cuda.is_available() else {"DS_ACCELERATOR": "cpu"}
    with no_bars(), environment(**device):
        yield
