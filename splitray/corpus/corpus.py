"""A finished corpus: opened from the store, read by memory map. No Ray, picklable by its address."""

import json
from collections.abc import Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from splitray.corpus.holdout import SPLITS, split_units
from splitray.corpus.mapped import MappedShard
from splitray.corpus.router import Router
from splitray.errors import StorageError, UserError
from splitray.storage import cache
from splitray.storage.checksum import Schema, fingerprint
from splitray.storage.local import local_part
from splitray.storage.store import Published, Store

# Manifests of the first release name no schema: they are schema 1, have the same fields, and are read as they are.
MANIFEST = Schema("corpus", 2)
_checked: set[tuple[str, str, str]] = set()  # files whose SHA-256 this process has compared


def content_hash(manifest: dict[str, Any], splits: tuple[str, ...] = SPLITS) -> str:
    """What the tokens of a corpus (or of some of its splits) are: equal for equal content, whoever built it."""
    shards = [[d, s, [f["sha256"] for f in manifest["shards"][d][s]]] for d in manifest["domains"] for s in splits]
    return fingerprint([manifest["tokenizer"]["sha256"], manifest["end_token"], manifest["domains"], shards], 64)


class Corpus:
    """Token shards by domain and split, with their tokenizer, router and statistics.

    `domain` arguments take a name or an index, `split` is "train" or "validation".
    """

    def __init__(self, store: Store, published: Published) -> None:
        self._store, self._published = store, published
        self.key = published.key

    @staticmethod
    def open(store: Store, key: str) -> "Corpus":
        published = store.find(key)
        if published is None:
            raise StorageError(f"the store {store.root.uri} holds no finished corpus {key}")
        return Corpus(store, published)

    def __reduce__(self) -> tuple[Any, ...]:
        return Corpus.open, (self._store, self.key)

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What the corpus is: domains, tokenizer, shards with their SHA-256, hashes, settings and versions."""
        manifest = self._json("manifest.json")
        MANIFEST.check(manifest, f"the manifest of {self.key}")
        return manifest

    @cached_property
    def statistics(self) -> dict[str, Any]:
        """Counts, top terms, what was skipped and why, oversized groups, seconds by pass."""
        return self._json("statistics.json")

    @property
    def domains(self) -> list[str]:
        return list(self.manifest["domains"])

    def identity(self) -> dict[str, Any]:
        """What a recipe holds of a corpus: `content_hash`, `vocab`, `end_token`."""
        return {"content_hash": self.content_hash, "vocab": self.vocab_size, "end_token": self.end_token}

    @property
    def content_hash(self) -> str:
        return str(self.manifest["content_hash"])

    @property
    def validation_hash(self) -> str:
        return str(self.manifest["validation_hash"])

    @property
    def vocab_size(self) -> int:
        return int(self.manifest["tokenizer"]["vocabulary"])

    @property
    def end_token(self) -> int:
        return int(self.manifest["end_token"])

    @property
    def dtype(self) -> np.dtype:
        dtype: np.dtype = np.dtype(self.manifest["dtype"])
        return dtype

    def tokens(self, domain: str | int, split: str) -> list[np.ndarray]:
        """Memory-mapped 1-D arrays of `dtype`, one a shard: documents ordered by hash of id, each ended by
        `end_token`."""
        return [shard.open() for shard in self.mapped(domain, split)]

    def mapped(self, domain: str | int, split: str) -> list[MappedShard]:
        """The arrays of `tokens`, each opened when it is first read."""
        remote = not self._published.folder.is_local
        return [
            MappedShard(
                f"{shard['file']} of {self.key}",
                shard["tokens"],
                partial(self._file, shard["file"], hold=remote),
                self._published.stored(shard["file"]).sha256 if remote else None,
            )
            for shard in self._shards(domain, split)
        ]

    def room(self, at_once: Mapping[str, int], split: str) -> int:
        """Bytes of this machine's cache that so many shards of each domain take at most; 0 where none is cached."""
        if self._published.folder.is_local:
            return 0
        sizes = {d: [self._published.stored(s["file"]).bytes for s in self._shards(d, split)] for d in at_once}
        return sum(sum(sorted(sizes[domain], reverse=True)[:count]) for domain, count in at_once.items())

    def check_room(self, at_once: Mapping[str, int], split: str) -> None:
        """Refuse shards that this machine's cache cannot hold at once, before any of them is downloaded.

        Args:
            at_once: how many shards of each domain are needed at once.

        Raises:
            StorageError: it cannot; the message says how much they are and what the cache may have.
        """
        needed = self.room(at_once, split)
        if needed and needed > (most := cache.limit()):
            shards = sum(at_once.values())
            raise StorageError(
                f"{shards} shards of the {split} text of {len(at_once)} domains of {self.key} are needed at once. That "
                f"is {needed / 1e9:.3g} GB, and this machine's cache may have {most / 1e9:.3g} GB: set {cache.LIMIT} "
                "to more, or TMPDIR to a larger disk, or (in a new run folder) training.shuffle_tokens to less"
            )

    def documents(self, domain: str | int, split: str) -> pa.Table:
        """Columns id, group, start (token offset in the shards laid end to end), tokens (end token included), bytes
        (of UTF-8 text) and, for validation, text. In the order of the tokens."""
        tables, start = [], 0
        for shard in self._shards(domain, split):
            table = pq.read_table(self._file(shard["file"].replace("shards/", "documents/")[:-4] + ".parquet"))
            at = table.schema.get_field_index("start")
            shifted = pa.array(table["start"].to_numpy() + start)
            tables.append(table.set_column(at, "start", shifted))
            start += shard["tokens"]
        return pa.concat_tables(tables)

    def groups(self, domain: str | int, split: str) -> list[str]:
        """The group of each document, in the order of `documents`: what was sent to one side of the split together.

        That is the row that a document was cut from, where its group was split by row.
        """
        table, by_row = self.documents(domain, split), {g["group"] for g in self.statistics["groups_split_by_row"]}
        return split_units(table["id"].to_pylist(), table["group"].to_pylist(), by_row)

    def counts(self, domain: str | int, split: str) -> dict[str, int]:
        """Sums over the shards: tokens (end tokens included), documents, bytes of UTF-8 text."""
        shards = self._shards(domain, split)
        return {name: sum(shard[name] for shard in shards) for name in ("tokens", "documents", "bytes")}

    def tokenizer_path(self) -> Path:
        """A local folder that `AutoTokenizer.from_pretrained` loads."""
        return self._folder("tokenizer")

    def router(self) -> Router:
        return Router.load(self.router_path())

    def router_path(self) -> Path:
        """A local folder that `Router.load` opens. It needs nothing else of the store."""
        return self._folder("router")

    def projection(self) -> pa.Table:
        """x, y, domain of a fixed sample of at most 5,000 training documents, for the picture of the domains."""
        return pq.read_table(self._file("projection.parquet"))

    def _shards(self, domain: str | int, split: str) -> list[dict[str, Any]]:
        name = self.manifest["domains"][domain] if isinstance(domain, int) else domain
        if name not in self.manifest["shards"] or split not in SPLITS:
            raise UserError(f"the corpus has no {split!r} of {name!r}; its domains are {', '.join(self.domains)}")
        shards: list[dict[str, Any]] = self.manifest["shards"][name][split]
        return shards

    def _file(self, name: str, hold: bool = False) -> Path:
        mark = (self.key, self._published.nonce, name)
        # A remote file is cached under its checksum: fetching it unchecked would download it anew.
        check = mark not in _checked or not self._published.folder.is_local
        with self._store.invalidating(self._published):
            path = self._published.fetch(name, check, trust=True, hold=hold)
        _checked.add(mark)
        return path

    def _json(self, name: str) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self._file(name).read_text())
        return value

    def _folder(self, prefix: str) -> Path:
        """A local folder with every file below `prefix`: the store's own where that is local."""
        names = [name for name in self._published.files if name.startswith(f"{prefix}/")]
        return local_part(self._published, prefix, {name: self._file(name) for name in names})
