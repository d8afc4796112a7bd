"""Does a domain pay? The domain filter: a topic's classifier, its threshold, the pass over a corpus, contamination."""

from splitray.study.filter import DomainFilter, Examples, FilterSettings

__all__ = ["DomainFilter", "Examples", "FilterSettings"]
