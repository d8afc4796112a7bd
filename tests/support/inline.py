"""The passes of a corpus in this process, one after another: what they compute, without a cluster."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from splitray.corpus import Corpus, CorpusSettings, build
from splitray.corpus.sources import list_sources
from splitray.storage.store import Store


class InlineEngine:
    """Runs what `ray_tasks.Engine` would send to workers."""

    def __init__(self, settings: CorpusSettings) -> None:
        pass

    def over(self, name: str, work: Callable[..., Any], items: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        return (work(dict(item)) for item in items)

    def task(self, name: str, work: Callable[..., Any], *arguments: Any, gpus: float = 0) -> Any:
        return work(*arguments)

    def get(self, reference: Any) -> Any:
        return reference

    def stop(self) -> None:
        pass


def build_inline(settings: CorpusSettings, seed: int, store: Store, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    """As `build_corpus`, in this process."""
    monkeypatch.setattr(build, "Engine", InlineEngine)
    files, passed = list_sources(settings)
    key = build.corpus_key(settings, seed, files)
    build._publish(store, build._Build(settings, seed, store.attempt(key)), files, passed)
    return Corpus.open(store, key)
