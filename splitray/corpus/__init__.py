"""The corpus stage: read, clean, embed, cluster, tokenize, shards. Only `build_corpus` needs Ray."""

from splitray.corpus.corpus import Corpus
from splitray.corpus.router import Router
from splitray.corpus.settings import CorpusSettings
from splitray.storage.store import Store


def build_corpus(settings: CorpusSettings, seed: int, store: Store) -> Corpus:
    """See `splitray.corpus.build.build`; imported when called, so that reading a corpus needs no Ray."""
    from splitray.corpus.build import build as run

    return run(settings, seed, store)


__all__ = ["Corpus", "CorpusSettings", "Router", "build_corpus"]
