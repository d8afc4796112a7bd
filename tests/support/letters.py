"""An embedder of ten lines, as a user would add it: how often each letter occurs."""

from collections import Counter

import numpy as np

from splitray.corpus.embedders import Embedder, register_embedder, unit
from splitray.settings import Settings


class LetterSettings(Settings):
    alphabet: str = "abcdefghijklmnopqrstuvwxyz"


@register_embedder
class Letters(Embedder):
    name = "letters"
    settings_class = LetterSettings

    def embed(self, texts: list[str]) -> np.ndarray:
        counts = [Counter(text.lower()) for text in texts]
        return unit(np.array([[count[letter] for letter in self.settings.alphabet] for count in counts]))
