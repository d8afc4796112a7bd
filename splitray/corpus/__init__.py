"""The corpus stage: read, clean, embed, cluster, tokenize, shards. Only `build` needs Ray."""

from collections.abc import Callable

from splitray.corpus.corpus import Corpus
from splitray.corpus.router import Router
from splitray.corpus.settings import CorpusSettings
from splitray.storage.store import Store


def build(settings: CorpusSettings, seed: int, store: Store, say: Callable[[str], None]) -> Corpus:
    """See `splitray.corpus.build.build`; imported when called, so that reading a corpus needs no Ray."""
    from splitray.corpus.build import build as run

    return run(settings, seed, store, say)


__all__ = ["Corpus", "CorpusSettings", "Router", "build"]
