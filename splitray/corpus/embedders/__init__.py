"""Embedders and their registry. The ones that come with splitray are registered here."""

from splitray.corpus.embedders.embedder import Embedder, NoSettings, Pool, describe, described, unit
from splitray.corpus.embedders.registry import find_embedder, load_embedder, register_embedder, section_owner
from splitray.corpus.embedders.sentence import SentenceEmbedder, SentenceSettings
from splitray.corpus.embedders.tfidf import TfidfEmbedder, TfidfSettings

__all__ = [
    "Embedder",
    "NoSettings",
    "Pool",
    "SentenceEmbedder",
    "SentenceSettings",
    "TfidfEmbedder",
    "TfidfSettings",
    "describe",
    "described",
    "find_embedder",
    "load_embedder",
    "register_embedder",
    "section_owner",
    "unit",
]
