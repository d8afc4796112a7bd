"""How many tokens a text is, measured with the vocabulary that is proposed."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from splitray.corpus.settings import TokenizerSettings
from splitray.corpus.tokenizer import Encoder, fit_tokenizer

_FITTED, _ENCODED = 4 << 20, 1 << 20  # bytes of the sample: merges settle within some MB


def bytes_per_token(texts: Sequence[str], settings: TokenizerSettings) -> float:
    """Bytes of text a token has, end tokens counted, on documents that the tokenizer was not fitted on.

    Where there are too few of them, on all.
    """
    held_out = [text for number, text in enumerate(texts) if number % 5 == 0] if len(texts) >= 50 else list(texts)
    rest = [text for number, text in enumerate(texts) if number % 5] if len(texts) >= 50 else list(texts)
    with tempfile.TemporaryDirectory(prefix="splitray-tokens-") as folder:
        fit_tokenizer(_first(rest, _FITTED), settings, Path(folder))
        encoder = Encoder(Path(folder))
    encoded = _first(held_out, _ENCODED)
    return sum(len(text.encode()) for text in encoded) / sum(len(tokens) for tokens in encoder.encode(encoded))


def _first(texts: Sequence[str], size: int) -> list[str]:
    """Texts from the beginning until so many bytes are reached."""
    taken, held = [], 0
    for text in texts:
        taken.append(text)
        held += len(text.encode())
        if held >= size:
            break
    return taken
